"""A writer of whole lines that makes one write of what a tick of the loop has to say."""

from __future__ import annotations

import asyncio
from threading import Lock, get_ident
from typing import Any, BinaryIO, Final

# Past this the lines are written at once, however long the tick lasts.
PENDING_MAX: Final = 256


class LineWriter:
    """Collects lines and writes them together at the end of the loop's tick.

    Where no loop runs (another thread, before the start, after the end) a line is written at once.
    Lines that the stream does not take are dropped and counted in `dropped`: logs must not stop
    turns.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        # always the same list: adding to it takes no lock
        self._pending: list[bytes] = []
        self._writing = Lock()
        # whether the loop of a thread will write what is pending
        self._due = False
        self._thread = 0
        self.dropped = 0

    def write(self, line: bytes | str) -> None:
        """Add a line, given without its end."""
        if isinstance(line, str):
            line = line.encode(errors="replace")
        self._pending.append(line)
        if len(self._pending) >= PENDING_MAX:
            self.flush()
        elif not (self._due and get_ident() == self._thread):
            # not each time: to ask which loop runs is a call of the system
            loop = _running_loop()
            if loop is None:
                self.flush()
            else:
                self._due, self._thread = True, get_ident()
                loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is pending."""
        self._due = False
        with self._writing:
            # one more may come now; it stays
            lines = self._pending[:]
            del self._pending[: len(lines)]
            if not lines:
                return
            lines.append(b"")
            try:
                self._stream.write(b"\n".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                # nobody reads any more, or the stream is closed (ValueError): there is nobody to
                # tell
                self.dropped += len(lines) - 1

    # what structlog calls on the logger it wraps
    msg = debug = info = warning = warn = error = critical = fatal = exception = write

    def __call__(self, *args: Any) -> LineWriter:
        """Be structlog's logger factory: all loggers share this writer."""
        return self


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
