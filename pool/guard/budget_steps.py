"""The steps of a budget as changes of counters, each made whole or not at all. No I/O."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from pool.guard.budget import Grant, Line
from pool.store.counters import Change

# A turn's own counter with so much, or more, is settled.
SHUT: Final = 2**50
# Below that its mark says what was set aside, above that under which limit the model was chosen.
_MODEL: Final = 2**33


class Spent(Struct, frozen=True, gc=False):
    """What a turn spent; `micro` (micro-USD) None: not known. `at_least`: it was cut off, or nobody
    said how much it was. What is not known costs what was set aside.
    """

    tokens: int
    micro: int | None
    at_least: bool = False

    def under(self, line: Line) -> int:
        """What a limit is charged with."""
        known = self.tokens if line.unit == "tokens" else self.micro
        if known is None:
            return line.estimate
        return max(known, line.estimate) if self.at_least else known


def reserving(grant: Grant, open_to: Container[str]) -> Sequence[Change]:
    """Set aside for a turn; lines whose key is in `open_to` may go above their limit. There are two
    changes a line, the first of what is used.
    """
    taking = grant.terms.taking
    if not open_to:
        return taking
    opened = {line.used for line in grant.terms.lines if line.key in open_to}
    return [replace(each, limit=None) if each.name in opened else each for each in taking]


def settling(grant: Grant, spent: Spent) -> list[Change]:
    """Count what each limit is charged with: two changes a line, the first of what is spent. Then
    what was set aside is replaced, also after its hour, when it counts as spent.
    """
    terms, reserved = grant.terms, grant.reserved
    changes = []
    for line in terms.lines:
        charge, expires_at = spent.under(line), line.expires_at
        changes.append(Change(line.spent, charge, expires_at))
        changes.append(Change(line.used, charge - line.estimate * reserved, expires_at))
    if reserved:
        changes += terms.giving
    return changes


def reserved_once(grant: Grant) -> Change:
    """That something is set aside for a turn; forbidden if somebody has done that."""
    return Change(turn_counter(grant.turn_id), grant.mark, grant.until, grant.mark)


def settled_once(grant: Grant, known_until: float) -> Change:
    """That a turn is settled, which is known until then; forbidden if somebody has done that."""
    return Change(turn_counter(grant.turn_id), SHUT, known_until, grant.mark + SHUT)


def shutting(turn_id: str, known_until: float) -> list[Change]:
    """See to it that nothing is set aside for a turn any more; forbidden if something was."""
    return [Change(turn_counter(turn_id), SHUT, known_until, SHUT)]


def with_model(grant: Grant, line: Line) -> Grant:
    """A grant of the model that the budget of one of its limits wants, for everybody to see."""
    number = grant.lines.index(line) + 1
    return replace(grant, mark=grant.mark + number * _MODEL, model=line.budget.model)


def recalled(grant: Grant, value: int) -> Grant | None:
    """What was granted by what the turn's own counter says, where `grant` is what would be granted
    here and now; None: it is settled.
    """
    if value >= SHUT:
        return None
    number, mark = divmod(value, _MODEL)
    if mark != grant.mark:
        return replace(grant, mark=value, reserved=False)
    return with_model(grant, grant.lines[number - 1]) if number else grant


def turn_counter(turn_id: str) -> str:
    """The counter of a turn: 0, then its grant's mark, then that and `SHUT`."""
    return f"budget-turn:{turn_id}"


def told_once(line: Line, percent: int) -> Change:
    """That a part of a limit is reached; forbidden if somebody knows."""
    return Change(f"{line.key}:told:{line.limit}:{percent}", 1, line.expires_at, 1)
