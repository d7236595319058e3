"""The steps of a budget as changes of counters, each made whole or not at all. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pool.guard.budget import GATE_KEEP_S, SHUT, SLOT_S, Grant, Line
from pool.store.counters import Change, Counted


class Spent(NamedTuple):
    """What a turn spent; `micro` (micro-USD) None: not known. It then costs what was set aside."""

    tokens: int
    micro: int | None

    def under(self, line: Line) -> int:
        """What a limit is charged with."""
        if line.unit == "tokens":
            return self.tokens
        return line.estimate if self.micro is None else self.micro


def reserving(grant: Grant, open_to: set[str]) -> list[Change]:
    """Set aside for a turn, once. Lines whose key is in `open_to` may go above their limit."""
    expires_at = grant.until + SLOT_S
    changes = [Change(turn_counter(grant.turn_id), grant.mark, expires_at, grant.mark)]
    for line in grant.lines:
        limit = None if line.key in open_to else line.limit
        changes.append(line.change(line.used, line.estimate, limit))
        changes.append(due(line, grant.slot, line.estimate))
    return changes


def settling(
    grant: Grant, spent: Spent, also: Sequence[Change], known_until: float
) -> list[Change]:
    """Count what a turn spent, and `also` these, once; that it is settled is known until then. The
    second change is forbidden if what was set aside is no longer the turn's to give back.
    """
    changes = [Change(turn_counter(grant.turn_id), SHUT, known_until, grant.mark + SHUT)]
    if grant.reserved:
        changes.append(_gate(grant.slot, 1, SHUT - 1))
    for line in grant.lines:
        charge = spent.under(line)
        back = line.estimate if grant.reserved else 0
        changes.append(line.change(line.spent, charge))
        changes.append(line.change(line.used, charge - back))
        if back:
            changes.append(due(line, grant.slot, -back))
    return [*changes, *also]


def closing(slot: int) -> list[Change]:
    """Let nothing more of an hour be settled. Forbidden if that is so already."""
    return [_gate(slot, SHUT, 2 * SHUT - 1)]


def giving_back(line: Line, slot: int, amount: int) -> list[Change]:
    """Give back what is left of a closed hour, once."""
    return [
        line.change(f"{line.key}:back:{slot}", 1, 1),
        line.change(line.used, -amount),
        due(line, slot, -amount),
    ]


def due(line: Line, slot: int, amount: int = 0) -> Change:
    """A change of what is set aside until the end of an hour."""
    return line.change(f"{line.key}:due:{slot}", amount)


def turn_counter(turn_id: str) -> str:
    """The counter of a turn: 0, then its grant's mark, then that and `SHUT`."""
    return f"budget-turn:{turn_id}"


def refused_line(grant: Grant, over: int | None) -> Line | None:
    """The line whose limit forbade `reserving`; None if it was made, then or earlier."""
    # two changes a line, after the turn's own
    return None if not over else grant.lines[(over - 1) // 2]


def values_of(changes: Sequence[Change], counted: Counted) -> Mapping[str, int]:
    """The counters by their names."""
    return {change.name: value for change, value in zip(changes, counted.values, strict=True)}


def _gate(slot: int, amount: int, limit: int) -> Change:
    return Change(f"budget-hour:{slot}", amount, slot * SLOT_S + GATE_KEEP_S, limit)
