"""Pacing: no more calls in a time than a provider allows. Who comes too early waits.

The leaky bucket is that of `aiolimiter`, imported when the first of these is made. It lets a full
bucket through at once and the same amount again while it drains: here it is so small that no time
of the window's length ever sees more calls than were allowed. And it is waited for here, in the
order in which callers came: its own waker computes the very moment, and where rounding leaves that
a hair too early it asks again at once, for ever on a clock that only moves when nothing is due.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from math import isfinite
from typing import Any, Final

from msgspec import Struct

from pool.errors import ConfigError

# How finely it is known when a call fits in: in so many parts of the time between two.
_PARTS: Final = 64


class PaceRule(Struct, frozen=True, kw_only=True):
    """At most `calls` within any `window_s` seconds: a tenth of them at once, the others evenly."""

    calls: int
    window_s: float = 60.0

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise ConfigError("calls_max", self.calls, "write a number of at least 1")
        if not (isfinite(self.window_s) and self.window_s > 0):
            raise ConfigError("calls_window_s", self.window_s, "write a number of seconds above 0")

    @property
    def burst(self) -> int:
        """How many calls may be made at once after a quiet time."""
        return max(1, self.calls // 10)

    @property
    def interval_s(self) -> float:
        """Seconds between two calls when more wait."""
        # a window that begins with a burst sees a call less than fit into it: its end is the next
        return self.window_s / (self.calls - self.burst + 1)


class PaceExceeded(Exception):
    """So many wait already that a call's time would be over; it would have waited `retry_after_s`
    seconds.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"{retry_after_s:.1f} s is longer than can be waited")
        self.retry_after_s = retry_after_s


class Paces:
    """Paces by name, all of one rule. `ConfigError` if the package is missing."""

    __slots__ = ("_library", "_paces", "_rule")

    def __init__(self, rule: PaceRule) -> None:
        self._rule = rule
        self._library = _library()
        self._paces: dict[str, Pace] = {}

    def of(self, name: str) -> Pace:
        """The pace of that name, the same one each time. They are kept: names come from the
        configuration, never from a caller.
        """
        pace = self._paces.get(name)
        if pace is None:
            pace = self._paces[name] = Pace(self._rule, self._library)
        return pace


class Pace:
    """The pace of the calls of one model, for all who call it."""

    __slots__ = ("_bucket", "_library", "_loop", "_rule", "_turn", "_waiting")

    _bucket: Any
    _turn: asyncio.Lock

    def __init__(self, rule: PaceRule, library: Any) -> None:
        self._rule = rule
        self._library = library
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Pace {self._rule.calls} in {self._rule.window_s:g} s [{self._waiting} waiting]>"

    async def wait(self, left_s: float) -> None:
        """Wait until the next call may be made; `PaceExceeded`, at once, if that would take longer
        than `left_s` seconds.
        """
        bucket = self._here()
        if not (bucket.has_capacity() and not self._waiting):
            self._check(left_s)
        self._waiting += 1
        try:
            async with self._turn:
                missing = _missing(bucket)
                while missing:
                    await asyncio.sleep(missing * self._rule.interval_s)
                    missing = _missing(bucket)
                await bucket.acquire()
        finally:
            self._waiting -= 1

    def _check(self, left_s: float) -> None:
        wait_s = (self._waiting + 1) * self._rule.interval_s
        if wait_s > left_s:
            raise PaceExceeded(wait_s)

    def _here(self) -> Any:
        # a bucket belongs to one loop; what was waiting in another is gone with it
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            rule = self._rule
            self._bucket = self._library.AsyncLimiter(rule.burst, rule.burst * rule.interval_s)
            self._turn = asyncio.Lock()
            self._loop = loop
            self._waiting = 0
        return self._bucket


def _missing(bucket: Any) -> float:
    """Which part of a call does not fit into the bucket yet, rounded up."""
    parts = range(_PARTS + 1)
    return next(part / _PARTS for part in parts if bucket.has_capacity(1 - part / _PARTS))


def _library() -> Any:
    try:
        return import_module("aiolimiter")
    except ModuleNotFoundError as error:
        if error.name != "aiolimiter":
            raise
        remedy = 'pacing needs another package: pip install "actorpool[models]"'
        raise ConfigError("calls_max", "...", remedy) from None
