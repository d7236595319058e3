"""What budgets mean for one turn: its limits, and what is set aside for it. No I/O.

A budget counts tokens, money, or both; each is a `Line` with counters: `spent` by turns that were
settled, `used` (spent, and set aside for turns; the one that has the limit), and one for each hour:
`due`, set aside for turns that are over, settled or not, when it has ended. It is forgotten then:
what nobody settled is no longer set aside. It stays used.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final, NamedTuple
from zlib import crc32

from msgspec import Struct

from pool.guard.budget_rules import UNITS as UNITS
from pool.guard.budget_rules import AtLimit as AtLimit
from pool.guard.budget_rules import Budget as Budget
from pool.guard.budget_rules import BudgetRule as BudgetRule
from pool.guard.budget_rules import Every as Every
from pool.guard.budget_rules import Scope as Scope
from pool.guard.budget_rules import Unit as Unit
from pool.guard.naming import name_part
from pool.guard.periods import Span, span_at
from pool.store.counters import Change
from pool.turn import Turn

# What is set aside is looked at by the hour.
SLOT_S: Final = 3_600
# How long after its deadline, in seconds, a turn is given to be settled.
GRACE_S: Final = 3_600.0
# How long counters outlive their period: turns that began in it still end.
KEEP_S: Final = 3 * 86_400.0


class Line(Struct, frozen=True, kw_only=True):
    """One limit that a turn is under: a budget's tokens or money, of one subject, in one period.

    `key`: what its counters' names begin with. `spent`, `used`: the names of two of them. `alerts`:
    percents of the limit, and the amounts that they are, the least first.
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
    alerts: tuple[tuple[int, int], ...]
    # when its counters are forgotten
    expires_at: float

    def due(self, slot: int) -> str:
        """The name of what is set aside until an hour ends."""
        return f"{self.key}:due:{slot}"


class Terms(NamedTuple):
    """All limits that turns of one user, for one agent, made on one day, are under, which have to
    be settled when the hour `slot` ends, counted from the epoch.

    `mark` is another if other amounts are set aside. `taking`, `giving`: the changes that set them
    aside, and the part of giving them back that is the same for all turns; two, and one, a line.
    `warned`: the limits that are only told of, with their places.
    For `max_tokens`, `max_micro` see `Grant`.
    """

    lines: tuple[Line, ...]
    mark: int
    taking: tuple[Change, ...]
    giving: tuple[Change, ...]
    warned: tuple[tuple[int, Line], ...]
    max_tokens: int | None
    max_micro: int | None


class Grant(Struct, frozen=True, kw_only=True):
    """What was set aside for a turn, and what it may do.

    `reserved` is False if nothing was set aside, or it is not known what. `until`: when the turn's
    own counter is forgotten, if it is not settled, in seconds since the epoch; `mark`: what that is
    at. `model`: the one to use instead, if a budget says so.
    """

    turn_id: str
    terms: Terms
    until: float
    mark: int
    reserved: bool = True
    model: str | None = None

    @property
    def lines(self) -> tuple[Line, ...]:
        """The limits that the turn is under."""
        return self.terms.lines

    @property
    def max_tokens(self) -> int | None:
        """Where the turn has to be stopped (None: nowhere)."""
        return self.terms.max_tokens

    @property
    def max_micro(self) -> int | None:
        """Where it has to be stopped, in micro-USD."""
        return self.terms.max_micro

    def exceeded(self, tokens: int, micro: int | None) -> bool:
        """Whether a turn that has used so much is to be stopped. Of money None: not known."""
        most, most_micro = self.max_tokens, self.max_micro
        return (most is not None and tokens > most) or (
            most_micro is not None and micro is not None and micro > most_micro
        )


def slot_of(turn: Turn) -> int:
    """The hour in which a turn is over, and settled: counted from the epoch, by its end."""
    return ceil((turn.created_at + turn.request.deadline_s + GRACE_S) / SLOT_S)


def terms_of(budgets: Sequence[Budget], turn: Turn, max_tokens: int | None) -> Terms:
    """The limits that a turn is under. `max_tokens`: how many its agent may answer with."""
    most = _turn_limit(budgets, turn, "tokens")
    answer = min((each for each in (most, max_tokens) if each is not None), default=None)
    lines = tuple(
        line
        for budget in budgets
        if (subject := budget.subject(turn)) is not None
        for line in lines_of(budget, subject, turn.created_at, answer)
    )
    slot = slot_of(turn)
    said = ";".join(f"{line.key}={line.estimate}" for line in lines)
    return Terms(
        lines=lines,
        mark=(crc32(said.encode()) ^ slot) + 1,
        taking=tuple(change for line in lines for change in _taking(line, slot)),
        giving=tuple(_due(line, slot, -line.estimate) for line in lines),
        warned=tuple(
            (number, line) for number, line in enumerate(lines) if line.budget.at_limit == "warn"
        ),
        max_tokens=most,
        max_micro=_turn_limit(budgets, turn, "micro"),
    )


def lines_of(
    budget: Budget, subject: str, at: float, max_tokens: int | None = None
) -> tuple[Line, ...]:
    """The limits of a budget in the period of a time, in seconds since the epoch; of a budget for
    single turns there are none. `max_tokens`: how many a turn's agent may answer with.
    """
    if budget.period == "turn":
        return ()
    span = span_at(budget.period, at)
    return tuple(
        _line(budget, unit, subject, span, max_tokens)
        for unit in UNITS
        if budget.limit(unit) is not None
    )


def _line(budget: Budget, unit: Unit, subject: str, span: Span, answer: int | None) -> Line:
    parts = subject.split("/", 1) if subject else ["all"]
    whose = ":".join(name_part(part) for part in parts)
    key = f"budget:{budget.name}:{whose}:{span.name}:{unit}"
    limit = budget.limit(unit) or 0
    return Line(
        budget=budget,
        unit=unit,
        subject=subject,
        span=span,
        limit=limit,
        estimate=budget.estimate(unit, answer),
        alerts=tuple((each, -(-each * limit // 100)) for each in sorted(budget.alerts)),
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


def _taking(line: Line, slot: int) -> tuple[Change, Change]:
    # turns that are only warned of may go above the limit
    limit = None if line.budget.at_limit == "warn" else line.limit
    used = Change(line.used, line.estimate, line.expires_at, limit)
    return used, _due(line, slot, line.estimate)


def _due(line: Line, slot: int, amount: int) -> Change:
    return Change(line.due(slot), amount, float(slot * SLOT_S))
