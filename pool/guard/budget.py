"""What may be spent: budgets as they are configured, and what they mean for one turn. No I/O.

A budget counts tokens, money, or both; each is a `Line` with three counters: `spent` by turns that
ended, `used` (spent, and reserved by turns that have not ended; the one that has the limit), and
`due` (reserved until the end of a certain hour).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple
from zlib import crc32

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.naming import name_part
from pool.guard.periods import Period, Span, span_at
from pool.guard.prices import micro_of_usd
from pool.store.counters import Change
from pool.turn import Turn

Scope = Literal["global", "tenant", "user", "agent"]
Unit = Literal["tokens", "micro"]
AtLimit = Literal["warn", "cheaper", "refuse"]

UNITS: Final[tuple[Unit, ...]] = ("tokens", "micro")
# Reservations that nobody settled are given back by the hour.
SLOT_S: Final = 3_600
# How long counters outlive their period: turns that began in it still end.
KEEP_S: Final = 3 * 86_400.0
# A gate outlives the counters of every period that its hour's reservations may belong to.
GATE_KEEP_S: Final = 40 * 86_400.0
# A gate with so much is closed; a turn with so much is settled.
SHUT: Final = 2**40
# What is reserved for a turn if nothing is said: at most so much, at most a tenth of the limit.
_TOKENS: Final = 4_000
_MICRO: Final = 10_000


class Budget(Struct, frozen=True, kw_only=True):
    """What may be spent in a period, or by one turn.

    `scope` and `of`: whose turns count. `of` names a tenant, an agent, or a user as `tenant/user`;
    without it each has a budget of its own. `tokens` are input and output together, `usd` is money:
    at least one is given. `name` is what its counters are called by: a budget that is renamed
    begins anew.

    `at_limit`, when a turn's reservation does not fit: `refuse` it, let it run with the `cheaper`
    `model`, or `warn`. For one turn: `refuse` stops it where it is, `warn` tells.

    `reserve_tokens`, `reserve_usd`: set aside for each running turn (default: the agent's
    `max_tokens`, else 4,000 tokens; 0.01 USD; at most a tenth of the limit). A turn that spends
    more than was set aside is counted with what it spent.

    `alerts`: percent of the limit, each told once a period.
    """

    name: str
    scope: Scope = "global"
    of: str | None = None
    period: Period | Literal["turn"] = "month"
    tokens: int | None = None
    usd: float | None = None
    at_limit: AtLimit = "refuse"
    model: str | None = None
    reserve_tokens: int | None = None
    reserve_usd: float | None = None
    alerts: tuple[int, ...] = (50, 75, 90, 100)

    def __post_init__(self) -> None:
        if name_part(self.name) != self.name:
            raise ConfigError("budget.name", self.name, "write 1 to 64 of A-Z a-z 0-9 _ - . @")
        if self.tokens is None and self.usd is None:
            raise self._mistake("tokens", None, "set tokens, usd, or both")
        for unit in UNITS:
            limit, reserve = self.limit(unit), self._asked(unit)
            if limit is not None and limit < 1:
                raise self._mistake(_option(unit), limit, "write a number above 0")
            if reserve is not None and not 1 <= reserve <= (limit or reserve):
                option = f"reserve_{_option(unit)}"
                raise self._mistake(option, reserve, "write a number above 0, at most the limit")
        if (self.at_limit == "cheaper") != (self.model is not None):
            raise self._mistake("model", self.model, 'goes with at_limit = "cheaper"')
        if self.at_limit == "cheaper" and self.period == "turn":
            raise self._mistake("at_limit", self.at_limit, "a running turn keeps its model")
        if self.scope == "global" and self.of is not None:
            raise self._mistake("of", self.of, "a global budget is nobody's: leave it out")
        if self.scope == "user" and self.of is not None and "/" not in self.of:
            raise self._mistake("of", self.of, "name a user as tenant/user")
        if any(not 0 < percent <= 100 for percent in self.alerts):
            raise self._mistake("alerts", self.alerts, "write percents above 0, at most 100")

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

    def _asked(self, unit: Unit) -> int | None:
        if unit == "tokens":
            return self.reserve_tokens
        return None if self.reserve_usd is None else micro_of_usd(self.reserve_usd)

    def _mistake(self, option: str, value: object, remedy: str) -> ConfigError:
        return ConfigError(f"budget {self.name}: {option}", value, remedy)


class Line(Struct, frozen=True, kw_only=True):
    """One limit that a turn is under: a budget's tokens or money, of one subject, in one period.

    `key`: what its counters' names begin with. `spent`, `used`: the names of two of them.
    """

    budget: Budget
    unit: Unit
    subject: str
    span: Span
    limit: int
    estimate: int
    key: str
    spent: str
    used: str
    # when its counters are forgotten
    expires_at: float

    def change(self, counter: str, amount: int, limit: int | None = None) -> Change:
        """A change of one of its counters, by its whole name."""
        return Change(counter, amount, self.expires_at, limit)


class Terms(NamedTuple):
    """All limits that turns of one user, for one agent, made on one day, are under. `mark` is
    another if other amounts are set aside; for `max_tokens`, `max_micro` see `Grant`.
    """

    lines: tuple[Line, ...]
    mark: int
    max_tokens: int | None
    max_micro: int | None


class Grant(Struct, frozen=True, kw_only=True):
    """What was set aside for a turn, and what it may do.

    `reserved` is False if nothing was set aside, or it is not known what. `until`: when it counts
    as left behind, in seconds since the epoch; `slot`: the hour in which that is, counted from
    there. `mark`: what the turn's own counter is at.

    `model`: the one to use instead, if a budget says so. `max_tokens`, `max_micro`: where the turn
    has to be stopped (None: nowhere).
    """

    turn_id: str
    lines: tuple[Line, ...] = ()
    until: float = 0.0
    slot: int = 0
    mark: int = 0
    reserved: bool = True
    model: str | None = None
    max_tokens: int | None = None
    max_micro: int | None = None

    def exceeded(self, tokens: int, micro: int | None) -> bool:
        """Whether a turn that has used so much is to be stopped. Of money None: not known."""
        return (self.max_tokens is not None and tokens > self.max_tokens) or (
            self.max_micro is not None and micro is not None and micro > self.max_micro
        )


def terms_of(budgets: Sequence[Budget], turn: Turn, max_tokens: int | None) -> Terms:
    """The limits that a turn is under. `max_tokens`: how many its agent may answer with."""
    most = _turn_limit(budgets, turn, "tokens")
    answer = min((each for each in (most, max_tokens) if each is not None), default=None)
    lines = tuple(
        _line(budget, unit, subject, span_at(budget.period, turn.created_at), answer)
        for budget in budgets
        if budget.period != "turn" and (subject := budget.subject(turn)) is not None
        for unit in UNITS
        if budget.limit(unit) is not None
    )
    said = ";".join(f"{line.key}={line.estimate}" for line in lines)
    return Terms(lines, crc32(said.encode()), most, _turn_limit(budgets, turn, "micro"))


def _line(budget: Budget, unit: Unit, subject: str, span: Span, answer: int | None) -> Line:
    parts = subject.split("/", 1) if subject else ["all"]
    whose = ":".join(name_part(part) for part in parts)
    key = f"budget:{budget.name}:{whose}:{span.name}:{unit}"
    return Line(
        budget=budget,
        unit=unit,
        subject=subject,
        span=span,
        limit=budget.limit(unit) or 0,
        estimate=budget.estimate(unit, answer),
        key=key,
        spent=f"{key}:spent",
        used=f"{key}:used",
        expires_at=span.ends + KEEP_S,
    )


def _turn_limit(budgets: Sequence[Budget], turn: Turn, unit: Unit) -> int | None:
    """The least that a single turn has to be stopped at."""
    limits = [
        limit
        for budget in budgets
        if budget.period == "turn" and budget.at_limit == "refuse"
        if budget.subject(turn) is not None and (limit := budget.limit(unit)) is not None
    ]
    return min(limits, default=None)


def _option(unit: Unit) -> str:
    return "tokens" if unit == "tokens" else "usd"
