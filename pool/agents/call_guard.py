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

    __slots__ = ("_breaker", "_budget", "_clock", "_pace", "_reach", "_retrying")

    def __init__(
        self,
        *,
        retrying: Retrying | None,
        budget: RetryBudget,
        breaker: Breaker | None,
        pace: Pace | None,
        clock: Callable[[], float],
        reach: Breaker | None = None,
    ) -> None:
        self._retrying = retrying
        self._budget = budget
        self._breaker = breaker
        self._pace = pace
        self._clock = clock
        self._reach = reach

    async def __call__(
        self,
        call: Callable[[Callable[[], None]], Awaitable[T]],
        *,
        again: Callable[[PoolError], Awaitable[None]],
        left_s: float,
    ) -> T:
        """Call, as often as may be within `left_s` seconds; `again` is told the failure before each
        further time. `call` is given a function: to be called when something of the answer comes.

        Raises what `call` does at last; `BreakerOpen` or `PaceExceeded` if it may not be called.
        """
        deadline = self._clock() + left_s

        async def once(failure: PoolError | None) -> T:
            self._check()
            if self._pace is not None:
                await self._pace.wait(deadline - self._clock())
                # what came up meanwhile
                self._check()
            return await judged(failure)

        async def judged(failure: PoolError | None) -> T:
            if self._breaker is None:
                return await told(failure, _nobody_asks)
            passage = self._breaker.enter()
            try:
                answer = await told(failure, passage.answered)
            except BaseException as error:
                _judge(passage, error)
                raise
            passage.succeeded()
            return answer

        async def told(failure: PoolError | None, answered: Callable[[], None]) -> T:
            if failure is not None:
                await again(failure)
            return await call(answered)

        if self._retrying is None:
            return await once(None)
        return await self._retrying(
            once, budget=self._budget, deadline=deadline, useful=self._may_help
        )

    def _check(self) -> None:
        """`BreakerOpen` if a breaker lets no call through: before a place is taken in the pace, and
        before anybody is told of a call that would not be made.
        """
        for breaker in (self._breaker, self._reach):
            if breaker is not None:
                breaker.check()

    def _may_help(self) -> bool:
        """Whether a breaker would let a further call through."""
        breakers = (self._breaker, self._reach)
        return all(breaker is None or breaker.state == "closed" for breaker in breakers)


def _judge(passage: Passage, error: BaseException) -> None:
    """What the end of a call says about the model."""
    if isinstance(error, BrokenOff):
        error = error.error
    if not isinstance(error, ProviderError):
        passage.abandoned()
    elif error.of_the_model:
        passage.failed(error)
    else:
        # it works: what it was asked was wrong
        passage.succeeded()


def _nobody_asks() -> None:
    """Without a breaker nothing is learned from an answer that begins."""
