"""The rule by which counters change, for stores that do it themselves; Redis has it as a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from pool.errors import InvalidRequest
from pool.store.counters import VALUE_MAX, VALUE_MIN, Change, Counted

# How many changes one step makes at most.
CHANGES_MAX: Final = 1_000


class Kept(NamedTuple):
    """A counter as it is kept."""

    value: int
    expires_at: float


def check_number(changes: Sequence[Change]) -> None:
    """`InvalidRequest` if there are more than one step makes."""
    if len(changes) > CHANGES_MAX:
        raise InvalidRequest(f"at most {CHANGES_MAX} counters are changed at once", field="changes")


def changed(
    changes: Sequence[Change], kept: Mapping[str, tuple[int, float]], now: float
) -> tuple[Counted, Mapping[str, tuple[int, float]]]:
    """What becomes of changes, made one after the other to what is `kept`; and the counters that
    are to be kept in their places, as `Kept`s are.

    Of several changes to a counter the last says when it is forgotten. `InvalidRequest` if one
    would not fit into 64 bits: then none is made.
    """
    after: dict[str, tuple[int, float]] = {}
    values: list[int] = []
    for change in changes:
        name, amount, limit = change.name, change.amount, change.limit
        before = after.get(name) or kept.get(name)
        value = amount if before is None or before[1] <= now else amount + before[0]
        if limit is not None and value > limit and amount > 0:
            told = [value_of(kept.get(each.name), now) for each in changes]
            return Counted(told, len(values)), {}
        if not VALUE_MIN <= value <= VALUE_MAX:
            raise out_of_range(name)
        after[name] = (value, change.expires_at)
        values.append(value if change.expires_at > now else 0)
    if len(after) < len(changes):
        # one that is changed twice is told as it is after all of them
        values = [value_of(after[each.name], now) for each in changes]
    return Counted(values, None), after


def value_of(kept: tuple[int, float] | None, now: float) -> int:
    """What a counter says: 0 if it is not known, or to be forgotten."""
    return kept[0] if kept is not None and kept[1] > now else 0


def out_of_range(name: str) -> InvalidRequest:
    """What a caller is told whose change would not fit."""
    return InvalidRequest(
        f"counter {name} would not fit into 64 bits: this changed nothing", field="amount"
    )
