"""Counts that several processes raise at once, some of them under a limit: budgets, usage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from pool.errors import InvalidRequest

# What a counter may be: a whole number of 64 bits.
VALUE_MIN: Final = -(2**63)
VALUE_MAX: Final = 2**63 - 1
# Times later than this, in seconds, are no times (the year 33658).
_TIME_MAX: Final = 1e12
_is_name: Final = re.compile(r"[A-Za-z0-9_.:/@-]{1,256}").fullmatch


class Change(Struct, frozen=True, gc=False):
    """Add `amount` (whole, may be below 0) to a counter. With a `limit` the counter may not get
    above it by this. The counter is forgotten at `expires_at` (seconds since the epoch).

    `InvalidRequest` if it has a name, number or time that is none: what there is, can be made.
    """

    name: str
    amount: int
    expires_at: float
    limit: int | None = None

    def __post_init__(self) -> None:
        if not is_counter(self.name):
            raise InvalidRequest(
                "a counter's name must be 1 to 256 of A-Z a-z 0-9 _ - . : / @", field="name"
            )
        if not VALUE_MIN <= self.amount <= VALUE_MAX:
            raise InvalidRequest("amount must fit into 64 bits", field="amount")
        if self.limit is not None and not VALUE_MIN <= self.limit <= VALUE_MAX:
            raise InvalidRequest("limit must fit into 64 bits", field="limit")
        # neither is what is no number
        if not 0 <= self.expires_at <= _TIME_MAX:
            raise InvalidRequest("expires_at must be seconds since the epoch", field="expires_at")


class Counted(NamedTuple):
    """What became of changes: the counters as they are now, and the place of the first change that
    its limit forbids (None: all were made).
    """

    values: Sequence[int]
    over: int | None


class Counters(Protocol):
    """The part of a store that counts."""

    async def count(self, changes: Sequence[Change]) -> Counted:
        """Make all changes, or none of them if a limit forbids one. One that lowers a counter is
        never forbidden. Not idempotent: who lost the answer does not know.
        """

    async def counts(self, names: Sequence[str]) -> Sequence[int]:
        """The counters as they are; 0 for one that is not known."""


def is_counter(name: str) -> bool:
    """Whether a counter may be called so."""
    return _is_name(name) is not None
