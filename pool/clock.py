"""The clock that turns are measured by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The loop's time in seconds, as fine as it can be had.

    uvloop counts whole milliseconds of the system's monotonic clock: that clock itself is finer. A
    loop with a time of its own (virtual, in tests) keeps it.
    """
    return time.monotonic if type(loop).__module__.startswith("uvloop") else loop.time
