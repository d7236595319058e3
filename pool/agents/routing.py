"""Which model is to answer a turn: a budget's, else the one of a hook or of the first rule that
fits, else the agent's own. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from pool.agent import Context, TurnInput
from pool.errors import AgentFailed, ConfigError
from pool.turn import Complexity, Priority

# A rule of one's own: the name of a model, or None to leave it to the routes.
RouteHook = Callable[[TurnInput, Context], str | None]


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule: turns like this are for that `model`, the name of one that the agent has, or of
    another of its first model's provider.

    Whatever is given must fit: the `agent`'s name, the `priority`, the `plan` of the tenant, the
    caller's hint of `complexity`, and how many characters the input has (`min_chars` to
    `max_chars`, both included).
    """

    model: str
    agent: str | None = None
    priority: Priority | None = None
    plan: str | None = None
    complexity: Complexity | None = None
    min_chars: int | None = None
    max_chars: int | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("routes.model", self.model, "name the model that is to answer")
        least, most = self.min_chars or 0, self.max_chars
        if most is not None and most < least:
            raise ConfigError("routes.max_chars", most, f"write a number of at least {least}")

    def fits(self, turn: TurnFacts) -> bool:
        """Whether the rule is for this turn."""
        return (
            self.agent in (None, turn.agent)
            and self.priority in (None, turn.priority)
            and self.plan in (None, turn.plan)
            and self.complexity in (None, turn.complexity)
            and (self.min_chars or 0) <= turn.chars
            and (self.max_chars is None or turn.chars <= self.max_chars)
        )


class TurnFacts(NamedTuple):
    """What rules look at. `plan` is None for a tenant that has none."""

    agent: str
    priority: Priority
    plan: str | None
    complexity: Complexity | None
    chars: int


class Choice(NamedTuple):
    """A model that was chosen instead of the agent's own, by name, and why."""

    step: Literal["routed", "budget"]
    model: str
    reason: str


class Routing(Struct, frozen=True):
    """The rules of an agent, in order; `hook` is asked before them. `plans`: of which plan a tenant
    is.
    """

    routes: tuple[Route, ...] = ()
    hook: RouteHook | None = None
    plans: Mapping[str, str] = {}

    def choose(self, turn: TurnInput, ctx: Context) -> Choice | None:
        """The model for a turn; None: the agent's own."""
        if ctx.model is not None:
            return Choice("budget", ctx.model, "a budget wants a cheaper model")
        named = None if self.hook is None else _name(self.hook(turn, ctx))
        if named is not None:
            return Choice("routed", named, "the hook chose it")
        if not self.routes:
            return None
        facts = _facts(turn, ctx, self.plans)
        for place, route in enumerate(self.routes, 1):
            if route.fits(facts):
                return Choice("routed", route.model, f"route {place} fits")
        return None


def _facts(turn: TurnInput, ctx: Context, plans: Mapping[str, str]) -> TurnFacts:
    request = ctx.request
    plan = plans.get(ctx.principal.tenant)
    return TurnFacts(ctx.agent, request.priority, plan, request.complexity, len(turn.input))


def _name(said: object) -> str | None:
    if said is None or (isinstance(said, str) and said):
        return said
    raise AgentFailed(
        f"the hook that routes turns returned {type(said).__name__}; it returns the name of a "
        "model, or None"
    )
