"""How one model is called: within its pace, behind its circuit breaker, and again if it may be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pool.agents.model import BrokenOff
from pool.errors import PoolError, ProviderError
from pool.guard.breaker import Breaker, Passage
from pool.guard.pacing import Pace
from pool.guard.retrying import RetryBudget, Retrying

T = TypeVar("T")


class CallGuard:
    """How one model of one provider is called."""

    __slots__ = ("_breaker", "_budget", "_clock", "_pace", "_retrying")

    def __init__(
        self,
        *,
        retrying: Retrying | None,
        budget: RetryBudget,
        breaker: Breaker | None,
        pace: Pace | None,
        clock: Callable[[], float],
    ) -> None:
        self._retrying = retrying
        self._budget = budget
        self._breaker = breaker
        self._pace = pace
        self._clock = clock

    async def __call__(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        again: Callable[[PoolError], Awaitable[None]],
        left_s: float,
    ) -> T:
        """Call, as often as may be within `left_s` seconds; `again` is told the failure before each
        further time.

        Raises what `call` does at last; `BreakerOpen` or `PaceExceeded` if it may not be called.
        """
        deadline = self._clock() + left_s

        async def once(failure: PoolError | None) -> T:
            if self._pace is not None:
                await self._pace.wait(deadline - self._clock())
            if failure is not None:
                await again(failure)
            return await call()

        async def judged(failure: PoolError | None) -> T:
            if self._breaker is None:
                return await once(failure)
            passage = self._breaker.enter()
            try:
                answer = await once(failure)
            except BaseException as error:
                _judge(passage, error)
                raise
            passage.succeeded()
            return answer

        if self._retrying is None:
            return await judged(None)
        return await self._retrying(judged, budget=self._budget, deadline=deadline)


def _judge(passage: Passage, error: BaseException) -> None:
    """What the end of a call says about the model."""
    if isinstance(error, BrokenOff):
        error = error.error
    if not isinstance(error, ProviderError):
        passage.abandoned()
    elif error.retryable:
        passage.failed(error)
    else:
        # it works: what it was asked was wrong
        passage.succeeded()
