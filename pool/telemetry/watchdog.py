"""A thread that names the code that makes the event loop stand still.

The loop writes a beat; the thread sees that it has become old, and looks at what the loop's thread
is doing. It works while Python code or a blocking call runs; while C code holds the interpreter's
lock nobody can look, and the blockage is named as soon as the lock is free.
"""

from __future__ import annotations

import asyncio
import signal
import sysconfig
import threading
from collections.abc import Callable
from os import sep
from sys import _current_frames
from time import monotonic
from types import FrameType
from typing import Any, Final

import structlog

# The task that runs (None: a plain callback), for how many seconds at least, and
# "module:function:line".
Report = Callable[[asyncio.Task[Any] | None, float, str], None]

_LIBRARIES: Final = tuple(
    {sysconfig.get_path(name) + sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
# Looks (and beats) in one threshold: a blockage is reported at most this part of it late.
_LOOKS: Final = 4

_log = structlog.get_logger("pool.watchdog")


class Watchdog:
    """Calls `report` once for every time that the loop stands still for `threshold_s` seconds.

    `report` is called from the watchdog's thread while the loop stands still: it must not wait for
    the loop, and must be quick.
    """

    def __init__(self, threshold_s: float, report: Report) -> None:
        self._threshold_s = threshold_s
        self._interval_s = threshold_s / _LOOKS
        self._report = report
        self._beat = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch `loop`, from whose own thread this must be called."""
        if self._thread is not None:
            raise RuntimeError("the watchdog runs already: stop it before you start it again")
        self._stopped.clear()
        self._write_beat(loop)
        self._thread = threading.Thread(
            target=self._watch,
            args=(loop, threading.get_ident()),
            name="actorpool-watchdog",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. Called from the loop's thread; the thread ends at once."""
        if self._thread is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._stopped.set()
        self._thread.join()
        self._thread = None

    def _write_beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beat = monotonic()
        self._timer = loop.call_later(self._interval_s, self._write_beat, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        # a signal that came to this thread would not wake the main one out of a blocking call
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        reported = 0.0
        woke = monotonic()
        while not self._stopped.wait(self._interval_s):
            slept, woke = monotonic() - woke, monotonic()
            beat = self._beat
            # a beat is due `_interval_s` after the last one: only what is later than that is
            # blockage
            blocked_s = woke - beat - self._interval_s
            if blocked_s < self._threshold_s or beat == reported:
                continue
            task = asyncio.current_task(loop)
            where = _place(_current_frames().get(thread_id))
            # No task, and this thread was late itself: the process was stopped, its loop only idle.
            suspended = task is None and slept > 2 * self._interval_s
            # A new beat: the loop went on while it was looked at.
            if not suspended and self._beat == beat:
                reported = beat
                self._tell(task, blocked_s, where)

    def _tell(self, task: asyncio.Task[Any] | None, blocked_s: float, where: str) -> None:
        try:
            self._report(task, blocked_s, where)
        except Exception:
            _log.exception("the report of a blocked event loop failed", where=where)


def _place(frame: FrameType | None) -> str:
    """The innermost line of code that is no library's; the innermost of all if it is all theirs."""
    innermost = frame
    while frame is not None and _is_library(frame):
        frame = frame.f_back
    found = frame or innermost
    if found is None:
        return "?"
    module = found.f_globals.get("__name__", "?")
    return f"{module}:{found.f_code.co_name}:{found.f_lineno}"


def _is_library(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(("<frozen ", *_LIBRARIES))
