"""Counts that several processes raise at once, some of them under a limit: budgets, usage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct


class Change(Struct, frozen=True, gc=False):
    """Add `amount` (whole, may be below 0) to a counter. With a `limit` the counter may not get
    above it by this. The counter is forgotten at `expires_at` (seconds since the epoch).
    """

    name: str
    amount: int
    expires_at: float
    limit: int | None = None


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
