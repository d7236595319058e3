"""The models of a chat agent: the one that it asks, and those that are asked when it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from msgspec import Struct

from pool.agent import Context, TurnInput
from pool.agents.call_guard import CallGuard
from pool.agents.model import Model
from pool.agents.routing import Choice, Routing
from pool.errors import ContextTooLong, ProviderAuthentication, ProviderError, ProviderOverloaded
from pool.events import ModelDecided

# What everybody who asks no other has.
_AS_IT_IS: Final = Routing()


class Link(Struct, frozen=True):
    """A model of a chain. `account`: whose credentials it is asked with, where. `asked_as`: what
    its provider calls it.
    """

    name: str
    model: Model
    guard: CallGuard | None = None
    account: tuple[str, str] = ("", "")
    context_tokens: int = 0
    asked_as: str = ""


class Chain:
    """One actor's models: its own in the order in which they are asked, `others` that are only
    named by rules, and what `make` makes of further names.

    `last_resort`: the answer when all models failed.
    """

    def __init__(
        self,
        own: Sequence[Link],
        *,
        others: Sequence[Link] = (),
        make: Callable[[str], Link] | None = None,
        routing: Routing = _AS_IT_IS,
        last_resort: str | None = None,
    ) -> None:
        self.own = tuple(own)
        self.last_resort = last_resort
        self._known = {link.name: link for link in (*own, *others)}
        self._make = make
        self._routing = routing
        self._clients = AsyncExitStack()

    @classmethod
    def of(cls, model: Model) -> Chain:
        """The chain of one model that is asked whatever happens."""
        return cls((Link("", model),))

    async def open(self) -> None:
        """Open the models' clients."""
        async with AsyncExitStack() as clients:
            for link in self._known.values():
                await link.model.open()
                clients.push_async_callback(link.model.close)
            self._clients = clients.pop_all()

    async def close(self) -> None:
        """Close the models' clients, whichever of them fails to."""
        await self._clients.aclose()

    async def links(self, turn: TurnInput, ctx: Context) -> tuple[Link, ...]:
        """The models for a turn, first the one to ask; readers are told if it is not the agent's
        own first.
        """
        choice = self._routing.choose(turn, ctx)
        if choice is None:
            return self.own
        first = await self._named(choice.model)
        if first is None or (choice.step == "budget" and first is self.own[0]):
            return self.own
        await ctx.emit(ModelDecided(step=choice.step, model=first.name, reason=choice.reason))
        return behind(first, self.own, choice)

    async def _named(self, name: str) -> Link | None:
        link = self._known.get(name) or self._known.get(f"openai:{name}")
        if link is None and self._make is not None:
            link = self._make(name)
            await link.model.open()
            self._clients.push_async_callback(link.model.close)
            self._known[name] = link
        return link


def behind(first: Link, own: Sequence[Link], choice: Choice) -> tuple[Link, ...]:
    """The chain that begins with a model that was chosen.

    Behind one that was routed to come the agent's fallbacks. Behind a budget's come those that
    follow it in the chain, if it is one of them: none before it, which may be dearer.
    """
    if choice.step == "budget":
        return tuple(own[own.index(first) :]) if first in own else (first,)
    return (first, *(link for link in own[1:] if link is not first))


def following(links: Sequence[Link], at: int, error: ProviderError) -> int | None:
    """The place of the model to be asked when the one at `at` failed; None: there is none for it.

    What would be the same elsewhere, a request that is wrong say, is not passed on.
    """
    later = range(at + 1, len(links))
    return next((place for place in later if _helps(links[at], links[place], error)), None)


def _helps(failed: Link, link: Link, error: ProviderError) -> bool:
    if isinstance(error, ContextTooLong):
        return link.context_tokens > failed.context_tokens
    if isinstance(error, ProviderAuthentication):
        return link.account != failed.account
    return error.of_the_model


def may_pass(failures: Sequence[ProviderError]) -> bool:
    """Whether it was the models that failed, so that asking later may help; one that found fault
    with the request has spoken for all.
    """
    elsewhere = ContextTooLong | ProviderAuthentication
    return any(each.of_the_model for each in failures) and all(
        each.of_the_model or isinstance(each, elsewhere) for each in failures
    )


def worst(failures: Sequence[ProviderError]) -> ProviderError:
    """The failure to tell when all models failed: an overload if there was one, so that whoever
    watches for it learns of it; else the first that may pass, so that whoever asked learns of that;
    else the first.
    """
    return min(
        failures, key=lambda each: (not isinstance(each, ProviderOverloaded), not each.retryable)
    )
