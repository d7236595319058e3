"""How the process ends: asked once it finishes what runs, asked twice it goes, never it hangs."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import threading
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class EndSignals:
    """Waits for SIGTERM or SIGINT; the second one ends the process on the spot.

    The handlers run wherever the main thread is, in code that blocks the loop as well. `within_s`
    after the first signal the process ends with 1 and says where each thread was, whatever it does
    then: that needs neither the interpreter's lock nor a signal, which the first process of a
    container would not be ended by.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, within_s: float) -> None:
        self._loop = loop
        self._within_s = within_s
        self._first: signal.Signals | None = None
        self._asked = asyncio.Event()
        for number in SIGNALS:
            signal.signal(number, self._take)

    async def wait(self) -> str:
        """The name of the first signal, once it is there."""
        await self._asked.wait()
        return self._first.name if self._first is not None else ""

    def done(self) -> None:
        """Everything was taken down in time: call off the limit."""
        faulthandler.cancel_dump_traceback_later()

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._first is not None:
            # not through a stream: the interrupted code may hold its lock
            os.write(2, b"actorpool: second signal, ending at once\n")
            os._exit(128 + number)
        self._first = signal.Signals(number)
        faulthandler.dump_traceback_later(self._within_s, exit=True, file=2)
        self._loop.call_soon_threadsafe(self._asked.set)


def end_within(seconds: float, code: int) -> None:
    """End the process with `code` if it has not ended by itself after `seconds`.

    The interpreter waits for tasks that swallow cancellation and for threads that work; the agents
    of somebody else may leave both behind.
    """
    last_resort = threading.Timer(seconds, os._exit, (code,))
    last_resort.daemon = True
    last_resort.start()
