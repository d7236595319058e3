"""The steps of a budget as changes of counters, each made whole or not at all. No I/O."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from pool.guard.budget import Grant, Line
from pool.store.counters import Change

# A turn's own counter with so much, or more, is settled.
SHUT: Final = 2**50
# Below that its mark says what was set aside, above that under which limit the model was chosen.
_MODEL: Final = 2**33


class Spent(NamedTuple):
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


def reserving(grant: Grant, open_to: Container[str]) -> list[Change]:
    """Set aside for a turn, once. Lines whose key is in `open_to` may go above their limit."""
    mark = grant.mark
    own = Change(turn_counter(grant.turn_id), mark, grant.until, mark)
    if not open_to:
        return [own, *grant.terms.taking]
    opened = {line.used for line in grant.lines if line.key in open_to}
    taking = grant.terms.taking
    return [own, *(replace(each, limit=None) if each.name in opened else each for each in taking)]


def settling(
    grant: Grant, charges: Sequence[int], also: Sequence[Change], known_until: float
) -> list[Change]:
    """Count what each limit is charged with, and `also` these, once; that it is settled is known
    until then. What was set aside is replaced also after its hour, when it counts as spent.
    """
    changes = [Change(turn_counter(grant.turn_id), SHUT, known_until, grant.mark + SHUT)]
    # two a line, as in `reserving`: places count on that
    for line, charge in zip(grant.lines, charges, strict=True):
        back = line.estimate if grant.reserved else 0
        changes.append(Change(line.spent, charge, line.expires_at))
        changes.append(Change(line.used, charge - back, line.expires_at))
    if grant.reserved:
        changes += grant.terms.giving
    changes += also
    return changes


def spent_place(number: int) -> int:
    """Where among the changes of `settling` the `spent` of a line is, by the line's number."""
    return 1 + 2 * number


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


def used_place(number: int) -> int:
    """Where among the changes of `reserving` the `used` of a line is, by the line's number."""
    return 1 + 2 * number


def refused_line(grant: Grant, over: int) -> Line:
    """The line whose limit forbade `reserving`."""
    return grant.lines[(over - 1) // 2]
