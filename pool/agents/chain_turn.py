"""One turn's way down the chain of models. Every decision on it is told to the turn's readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from pool.agent import Context, TurnInput
from pool.agents.chain import Chain, Link, following, may_pass, worst
from pool.agents.model import Answer, BrokenOff, Emit, Hearing, Prompt
from pool.errors import PoolError, ProviderError, ProviderOverloaded
from pool.events import ModelDecided, ModelStep, TextDelta
from pool.guard.breaker import BreakerOpen
from pool.guard.pacing import PaceExceeded

Unanswered = Callable[[str, Hearing], None]

_TRIPPED: Final = "the model's provider failed too often and is left alone for now"
_TOO_MANY: Final = "the model is called as often as it may be, and too many wait for it"


class ChainTurn:
    """Asks models for one turn. It goes only forward: a model that had to be left is not asked
    again in the same turn, so that one voice speaks as long as it can.

    `unanswered` is told of each request that was sent and had no answer, and of which model.
    """

    __slots__ = ("_at", "_ctx", "_last_resort", "_links", "_unanswered", "overloaded")

    def __init__(
        self,
        links: tuple[Link, ...],
        ctx: Context,
        last_resort: str | None,
        unanswered: Unanswered,
    ) -> None:
        self._links = links
        self._ctx = ctx
        self._last_resort = last_resort
        self._unanswered = unanswered
        self._at = 0
        # a provider said that it has too much, whoever answered then
        self.overloaded = False

    @classmethod
    async def begin(
        cls, chain: Chain, turn: TurnInput, ctx: Context, unanswered: Unanswered
    ) -> ChainTurn:
        """The way of this turn, from the model that is for it."""
        return cls(await chain.links(turn, ctx), ctx, chain.last_resort, unanswered)

    async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
        """The first answer that a model of the chain gives, or the last resort.

        Raises `ProviderError`: of a model that had begun to answer; else the worst there was, when
        no model is left to be asked.
        """
        failures: list[ProviderError] = []
        while True:
            try:
                return await self._ask(self._links[self._at], prompt, emit, failures)
            except BrokenOff as broken:
                raise broken.error from broken.__cause__
            except ProviderError as error:
                goes_on = await self._go_on("fell_back", error)
            except BreakerOpen as error:
                failures.append(_left_alone(_TRIPPED, error.retry_after_s))
                goes_on = await self._go_on("skipped", failures[-1])
            except PaceExceeded as error:
                failures.append(_left_alone(_TOO_MANY, error.retry_after_s))
                goes_on = await self._go_on("fell_back", failures[-1])
            if not goes_on:
                break
        failure = worst(failures)
        if self._last_resort is None or not may_pass(failures):
            raise failure
        await self._tell("degraded", None, failure.detail)
        await emit(TextDelta(self._last_resort))
        return Answer(text=self._last_resort, degraded=True)

    async def _ask(
        self, link: Link, prompt: Prompt, emit: Emit, failures: list[ProviderError]
    ) -> Answer:
        async def call(answered: Callable[[], None] | None = None) -> Answer:
            heard = Hearing(emit, answered)
            try:
                return await link.model.ask(prompt, heard)
            except BaseException as error:
                if heard.sent:
                    self._unanswered(link.asked_as, heard)
                self._learn(error, failures)
                raise

        async def again(failure: PoolError) -> None:
            await self._tell("retried", link, failure.detail)

        if link.guard is None:
            return await call()
        left_s = self._ctx.deadline - self._ctx.clock()
        return await link.guard(call, again=again, left_s=left_s)

    def _learn(self, error: BaseException, failures: list[ProviderError]) -> None:
        if isinstance(error, BrokenOff):
            error = error.error
        elif isinstance(error, ProviderError):
            failures.append(error)
        self.overloaded |= isinstance(error, ProviderOverloaded)

    async def _go_on(self, step: Literal["fell_back", "skipped"], error: ProviderError) -> bool:
        """Go on to the next model that can help; whether there is one."""
        left = self._links[self._at].name
        place = following(self._links, self._at, error)
        if place is not None:
            self._at = place
        if place is not None or step == "skipped":
            link = None if place is None else self._links[place]
            await self._tell(step, link, f"{left}: {error.detail}")
        return place is not None

    async def _tell(self, step: ModelStep, link: Link | None, reason: str) -> None:
        model = "" if link is None else link.name
        await self._ctx.emit(ModelDecided(step=step, model=model, reason=reason))


def _left_alone(detail: str, retry_after_s: float) -> ProviderError:
    """The failure of a model that was not asked."""
    failure = ProviderError(detail, retry_after_s=retry_after_s)
    failure.retryable = True
    return failure
