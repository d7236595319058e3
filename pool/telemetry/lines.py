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
        self._pending: list[bytes] = []
        self._lock = Lock()
        # the one whose loop writes what is pending
        self._thread = 0
        self.dropped = 0

    def write(self, line: bytes | str) -> None:
        """Add a line, given without its end."""
        if isinstance(line, str):
            line = line.encode(errors="replace")
        with self._lock:
            self._pending.append(line)
            pending = len(self._pending)
        if 1 < pending < PENDING_MAX and get_ident() == self._thread:
            # it goes with the first (to ask which loop runs is a call of the system)
            return
        loop = _running_loop()
        if loop is None or pending >= PENDING_MAX:
            self.flush()
        else:
            self._thread = get_ident()
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is pending."""
        with self._lock:
            lines, self._pending = self._pending, []
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
