"""Counters in memory: bounded, and swept while they are used."""

from __future__ import annotations

import pytest

from pool.errors import StoreUnavailable
from pool.store.counters import Change, Counted
from pool.store.memory_counters import Counts


def test_expired_counters_are_dropped_as_new_ones_come() -> None:
    """Ten are alive at any time; a few times as many are kept, however many there were."""
    counts = Counts()
    most = 0
    for now in range(10_000):
        counts.change([Change(f"n{now}", 1, now + 10)], now)
        most = max(most, len(counts))
    assert most <= 40


def test_the_living_are_kept_while_others_expire() -> None:
    """What is looked at and has not expired keeps its value."""
    counts = Counts()
    counts.change([Change("long", 7, 1e9)], 0)
    for now in range(1_000):
        counts.change([Change(f"n{now}", 1, now + 10)], now)
    assert counts.value("long", 1_000) == 7


def test_a_full_store_counts_nothing_new() -> None:
    """All or none of a step is refused; what is known goes on counting."""
    counts = Counts(max_counters=3)
    counts.change([Change(name, 1, 100) for name in "abc"], 0)
    with pytest.raises(StoreUnavailable, match="has 3 counters"):
        counts.change([Change("a", 1, 100), Change("d", 1, 100)], 0)
    assert counts.change([Change("a", 1, 100)], 0) == Counted([2], None)
    assert repr(counts) == "<Counts 3 counters>"


def test_a_full_store_makes_room_of_what_has_expired() -> None:
    """Although many that live are looked at before it."""
    counts = Counts(max_counters=500)
    counts.change([Change(f"long{number}", 1, 100) for number in range(499)], 0)
    counts.change([Change("short", 1, 10)], 0)
    counts.change([Change("new", 1, 100)], 10)
    assert counts.value("new", 10) == 1
    assert len(counts) == 500


def test_a_counter_that_is_forgotten_at_once_takes_no_room() -> None:
    """A change in the past drops what there was."""
    counts = Counts()
    counts.change([Change("a", 1, 100)], 0)
    assert counts.change([Change("a", 1, 5)], 5) == Counted([0], None)
    assert len(counts) == 0
