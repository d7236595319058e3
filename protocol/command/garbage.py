"""When a server collects garbage: not while it answers, if that can be helped.

A full collection walks every object that lives, some hundred thousand of them before the first
turn, and it comes in the middle of somebody's answer: with Python's defaults the server made 0.49
of the bare limit and a p99 of 55 ms, with this 0.57 and 5 ms. Reference counts free nearly
everything anyway; only cycles wait, and those of a turn are mostly young when it ends. So:

- what lives when the server has started lives until it ends: it is never walked again;
- young objects are collected seldom and a little more at a time;
- old ones while nothing runs, and under a load that never pauses at long intervals only.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Final

# Allocations between two young collections (Python's default is 700).
YOUNG: Final = 5_000
# Young collections between two of the middle generation, which so walks at most 50,000 objects:
# some milliseconds. With four times as many it is what makes the worst answers late.
MIDDLE: Final = 10
# Of the old one: never by count.
OLD: Final = 1_000_000

LOOK_INTERVAL_S: Final = 30.0
# Looks until it is done though something runs: 10 minutes.
LOOKS_MAX: Final = 20


def settle() -> None:
    """Call once, when everything that stays has been made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    gc.enable()


class OldCollections:
    """Collects old garbage on the running loop when `idle()` says that nothing runs."""

    def __init__(
        self, idle: Callable[[], bool], collect: Callable[[], object] = gc.collect
    ) -> None:
        self._idle = idle
        self._collect = collect
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look at intervals, until `stop`."""
        self._timer = asyncio.get_running_loop().call_later(LOOK_INTERVAL_S, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._looks += 1
        if self._idle() or self._looks >= LOOKS_MAX:
            self._looks = 0
            self._collect()
        self.start()
