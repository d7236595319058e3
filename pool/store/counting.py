"""The rule by which counters change, for stores that do it themselves; Redis has it as a script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final, NamedTuple

from pool.errors import InvalidRequest
from pool.store.counters import Change, Counted

# What a counter may be: a whole number of 64 bits.
VALUE_MIN: Final = -(2**63)
VALUE_MAX: Final = 2**63 - 1
# How many changes one step makes at most.
CHANGES_MAX: Final = 1_000
# Times later than this, in seconds, are no times (the year 33658).
_TIME_MAX: Final = 1e12
_is_name = re.compile(r"[A-Za-z0-9_.:/@-]{1,256}").fullmatch


class Kept(NamedTuple):
    """A counter as it is kept."""

    value: int
    expires_at: float


def check_changes(changes: Sequence[Change]) -> None:
    """`InvalidRequest` if there are too many, or one has a name, number or time that is none."""
    if len(changes) > CHANGES_MAX:
        raise InvalidRequest(f"at most {CHANGES_MAX} counters are changed at once", field="changes")
    for name, amount, expires_at, limit in changes:
        if not is_counter(name):
            raise InvalidRequest(
                "a counter's name must be 1 to 256 of A-Z a-z 0-9 _ - . : / @", field="name"
            )
        _check_whole(amount, "amount")
        if limit is not None:
            _check_whole(limit, "limit")
        if not (isfinite(expires_at) and 0 <= expires_at <= _TIME_MAX):
            raise InvalidRequest("expires_at must be seconds since the epoch", field="expires_at")


def is_counter(name: str) -> bool:
    """Whether a counter may be called so."""
    return _is_name(name) is not None


def changed(
    changes: Sequence[Change], kept: Mapping[str, Kept], now: float
) -> tuple[Counted, Mapping[str, Kept]]:
    """What becomes of changes, made one after the other to what is `kept`; and the counters that
    are to be kept in their places.

    Of several changes to a counter the last says when it is forgotten. `InvalidRequest` if one
    would not fit into 64 bits: then none is made.
    """
    after: dict[str, Kept] = {}
    for place, (name, amount, expires_at, limit) in enumerate(changes):
        value = amount + value_of(after.get(name) or kept.get(name), now)
        if limit is not None and amount > 0 and value > limit:
            return Counted([value_of(kept.get(each.name), now) for each in changes], place), {}
        if not VALUE_MIN <= value <= VALUE_MAX:
            raise out_of_range(name)
        after[name] = Kept(value, expires_at)
    return Counted([value_of(after[each.name], now) for each in changes], None), after


def value_of(kept: Kept | None, now: float) -> int:
    """What a counter says: 0 if it is not known, or to be forgotten."""
    return kept.value if kept is not None and kept.expires_at > now else 0


def out_of_range(name: str) -> InvalidRequest:
    """What a caller is told whose change would not fit."""
    return InvalidRequest(
        f"counter {name} would not fit into 64 bits: this changed nothing", field="amount"
    )


def _check_whole(number: int, field: str) -> None:
    if not VALUE_MIN <= number <= VALUE_MAX:
        raise InvalidRequest(f"{field} must fit into 64 bits", field=field)
