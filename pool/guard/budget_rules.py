"""Budgets as they are configured. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.prices import micro_of_usd
from pool.turn import ID_PATTERN, Turn

Scope = Literal["global", "tenant", "user", "agent"]
Every = Literal["day", "week", "month", "turn"]
Unit = Literal["tokens", "micro"]
AtLimit = Literal["warn", "cheaper", "refuse"]

UNITS: Final[tuple[Unit, ...]] = ("tokens", "micro")
# What is reserved for a turn if nothing is said: at most so much, at most a tenth of the limit.
_TOKENS: Final = 4_000
_MICRO: Final = 10_000
_is_name: Final = re.compile(ID_PATTERN).search


class BudgetRule(Struct, frozen=True, kw_only=True):
    """What may be spent in a period, or by one turn.

    `scope` and `of`: whose turns count. `of` names a tenant, an agent, or a user as `tenant/user`;
    without it each has a budget of its own. `tokens` are input and output together, `usd` is money:
    at least one is given.

    `at_limit`, when a turn's reservation does not fit: `refuse` it, let it run with the `cheaper`
    `model`, or `warn`. For one turn: it is stopped where it is.

    `reserve_tokens`, `reserve_usd`: set aside for each running turn (default: the agent's
    `max_tokens`, else 4,000 tokens; 0.01 USD; at most a tenth of the limit). A turn that spends
    more than was set aside is counted with what it spent.

    `alerts`: percent of the limit, each told once a period.
    """

    scope: Scope = "global"
    of: str | None = None
    period: Every = "month"
    tokens: int | None = None
    usd: float | None = None
    at_limit: AtLimit = "refuse"
    model: str | None = None
    reserve_tokens: int | None = None
    reserve_usd: float | None = None
    alerts: tuple[int, ...] = (50, 75, 90, 100)

    def __post_init__(self) -> None:
        if self.tokens is None and self.usd is None:
            raise ConfigError("tokens", None, "set tokens, usd, or both")
        for unit in UNITS:
            limit, reserve = self.limit(unit), self._asked(unit)
            if limit is not None and limit < 1:
                raise ConfigError(
                    _option(unit), getattr(self, _option(unit)), "write a number above 0"
                )
            if reserve is not None and not 1 <= reserve <= (limit or reserve):
                remedy = "write a number above 0, at most the limit"
                option = f"reserve_{_option(unit)}"
                raise ConfigError(option, getattr(self, option), remedy)
        if (self.at_limit == "cheaper") != (self.model is not None):
            raise ConfigError("model", self.model, 'goes with at_limit = "cheaper"')
        if self.at_limit == "warn" and self.period == "turn":
            raise ConfigError("at_limit", self.at_limit, "a single turn is stopped: write refuse")
        if self.at_limit == "cheaper" and self.period == "turn":
            raise ConfigError("at_limit", self.at_limit, "a running turn keeps its model")
        if self.scope == "global" and self.of is not None:
            raise ConfigError("of", self.of, "a global budget is nobody's: leave it out")
        if self.scope == "user" and self.of is not None and "/" not in self.of:
            raise ConfigError("of", self.of, "name a user as tenant/user")
        if any(not 0 < percent <= 100 for percent in self.alerts):
            raise ConfigError("alerts", self.alerts, "write percents above 0, at most 100")

    def limit(self, unit: Unit) -> int | None:
        """The limit in tokens or micro-USD; None: none."""
        if unit == "tokens":
            return self.tokens
        return None if self.usd is None else micro_of_usd(self.usd)

    def estimate(self, unit: Unit, max_tokens: int | None) -> int:
        """How much is set aside for a turn. `max_tokens`: how many its agent may answer with."""
        asked, limit = self._asked(unit), self.limit(unit) or 0
        if asked is not None:
            return asked
        if unit == "tokens" and max_tokens is not None:
            return min(max_tokens, limit)
        return max(1, min(_TOKENS if unit == "tokens" else _MICRO, limit // 10))

    def subject(self, turn: Turn) -> str | None:
        """In whose name a turn counts here; None if it does not."""
        whose = {
            "global": "",
            "tenant": turn.tenant,
            "user": f"{turn.tenant}/{turn.user}",
            "agent": turn.agent,
        }[self.scope]
        return whose if self.of is None or self.of == whose else None

    def subjects(self, tenant: str | None, user: str, agents: Sequence[str]) -> Sequence[str]:
        """Who of these has this budget, or a part of it (None: all tenants). Those who are not
        named are not known here: `()`.
        """
        if self.scope == "global":
            return ("",)
        if self.scope == "agent":
            return agents if self.of is None else (self.of,)
        if self.of is not None:
            return (self.of,) if tenant in (None, self.of.partition("/")[0]) else ()
        if tenant is None:
            return ()
        return (tenant,) if self.scope == "tenant" else (f"{tenant}/{user}",)

    def _asked(self, unit: Unit) -> int | None:
        if unit == "tokens":
            return self.reserve_tokens
        return None if self.reserve_usd is None else micro_of_usd(self.reserve_usd)


class Budget(BudgetRule, frozen=True, kw_only=True):
    """A rule with a `name`, by which its counters are called: a budget that is renamed begins
    anew.
    """

    name: str

    def __post_init__(self) -> None:
        if _is_name(self.name) is None:
            raise ConfigError("budget.name", self.name, "write 1 to 64 of A-Z a-z 0-9 _ -")
        try:
            BudgetRule.__post_init__(self)
        except ConfigError as mistake:
            option = f"budget {self.name}: {mistake.option}"
            raise ConfigError(option, mistake.value, mistake.remedy) from None


def _option(unit: Unit) -> str:
    return "tokens" if unit == "tokens" else "usd"
