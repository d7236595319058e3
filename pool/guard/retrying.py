"""Trying again: what may be, after which pause, and how often in all.

`stamina` drives the tries, imported when the first of these is made. It is handed a function
without arguments and our own errors, so that its hooks, which belong to the process and not to us,
see no argument of any call, and no text but one that is fit to be shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from math import isfinite
from random import Random
from typing import Any, Final, Generic, TypeVar

from msgspec import Struct

from pool.errors import ConfigError, PoolError

T = TypeVar("T")
# A call; it is told the failure after which it is made again.
Call = Callable[[PoolError | None], Awaitable[T]]

# A budget begins with so many retries, and saves up to so many.
_AT_FIRST: Final = 2.0
_SAVED_MAX: Final = 10.0


def _always() -> bool:
    return True


class RetryRule(Struct, frozen=True, kw_only=True):
    """How often a call is tried again, and after what.

    `retries`: tries after the first. The pause before the first of them is `first_s`, doubled for
    each further one, at most `max_s`, times a random factor of 0.5 to 1. Whoever asks to be left
    alone for longer than `max_s` is not tried again.
    """

    retries: int = 2
    first_s: float = 0.5
    max_s: float = 20.0

    def __post_init__(self) -> None:
        if self.retries < 1:
            raise ConfigError("retries", self.retries, "write a number of at least 1")
        if not (isfinite(self.first_s) and self.first_s > 0):
            raise ConfigError("retry_first_s", self.first_s, "write a number of seconds above 0")
        if not (isfinite(self.max_s) and self.max_s >= self.first_s):
            remedy = f"write a number of seconds, at least retry_first_s ({self.first_s:g})"
            raise ConfigError("retry_max_s", self.max_s, remedy)


def pause_s(rule: RetryRule, error: Exception, tries: int, *, jitter: float) -> float | None:
    """Seconds to wait before trying again after `tries` failures; None: not again.

    `jitter` is from 0.5 to 1. A pause that the other side asked for comes before our own.
    """
    if not (isinstance(error, PoolError) and error.retryable) or tries > rule.retries:
        return None
    asked_s = error.retry_after_s or 0.0
    if asked_s > rule.max_s:
        return None
    return asked_s + jitter * min(rule.max_s, rule.first_s * 2.0 ** min(tries - 1, 60))


class RetryBudget:
    """Retries that calls have earned: each call a fifth of one, so that retries never add more than
    20 % to what an ailing service has to bear.

    A token bucket, as Finagle's `RetryBudget`, which allows the same 20 % by default:
    https://finagle.github.io/blog/2016/02/08/retry-budgets
    """

    __slots__ = ("_share", "left")

    def __init__(self, share: float = 0.2) -> None:
        self._share = share
        # retries that may be made now
        self.left = _AT_FIRST

    def earn(self) -> None:
        """A call was made for the first time. One that a breaker refused was not."""
        self.left = min(_SAVED_MAX, self.left + self._share)

    def take(self) -> bool:
        """Use up one retry, if there is one."""
        # a fifth is no binary fraction: five of them may be a little less than one
        if self.left < 1.0 - 1e-9:
            return False
        self.left -= 1.0
        return True


class Retrying:
    """Makes calls, and makes them again. `clock` is in seconds."""

    __slots__ = ("_clock", "_random", "_rule", "_run")

    def __init__(self, rule: RetryRule, *, clock: Callable[[], float], random: Random) -> None:
        self._rule = rule
        self._clock = clock
        self._random = random
        self._run = _library().AsyncRetryingCaller(attempts=None, timeout=None)

    async def __call__(
        self,
        call: Call[T],
        *,
        budget: RetryBudget,
        deadline: float,
        useful: Callable[[], bool] = _always,
    ) -> T:
        """Call until it succeeds, fails for good, or may not be tried again: then its last failure
        is raised. No pause goes past `deadline` (on the clock); there is none unless it is `useful`
        to try again.
        """
        try:
            answer = await call(None)
        except PoolError as error:
            budget.earn()
            if not error.retryable:
                raise
            failure = error
        else:
            budget.earn()
            return answer

        tries = _Tries(
            call,
            failure,
            lambda error, tries: self._pause(error, tries, budget, deadline) if useful() else None,
        )
        again: T = await self._run(tries.pause, tries.next)
        return again

    def _pause(
        self, error: Exception, tries: int, budget: RetryBudget, deadline: float
    ) -> float | None:
        wait_s = pause_s(self._rule, error, tries, jitter=self._random.uniform(0.5, 1.0))
        if wait_s is None or self._clock() + wait_s >= deadline or not budget.take():
            return None
        return wait_s


class _Tries(Generic[T]):
    """The tries of one call that has failed once, as the library asks for them."""

    def __init__(
        self,
        call: Call[T],
        failure: PoolError,
        pause: Callable[[Exception, int], float | None],
    ) -> None:
        self._call = call
        self._failure = failure
        self._pause = pause
        self._made = 0

    async def next(self) -> T:
        """Make the next try; the first is the one that has failed already."""
        self._made += 1
        if self._made == 1:
            raise self._failure
        return await self._call(self._failure)

    def pause(self, error: Exception) -> float | bool:
        """How long to wait before the next; False: it is not to be."""
        wait_s = self._pause(error, self._made)
        if wait_s is None:
            return False
        if isinstance(error, PoolError):
            self._failure = error
        return wait_s


def _library() -> Any:
    try:
        return import_module("stamina")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("stamina", "tenacity"):
            raise
        remedy = 'retries need another package: pip install "actorpool[models]"'
        raise ConfigError("retries", "on", remedy) from None
