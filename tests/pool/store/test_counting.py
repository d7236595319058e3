"""The rule by which counters change, at its edges."""

from __future__ import annotations

import pytest

from pool.store.counters import Change, Counted
from pool.store.counting import Kept, changed, value_of


@pytest.mark.parametrize(("now", "value"), [(9.999, 5), (10.0, 0), (10.001, 0)])
def test_a_counter_is_forgotten_at_its_time(now: float, value: int) -> None:
    """To the moment: then it is 0, and its limit is there anew."""
    kept = Kept(5, 10.0)
    assert value_of(kept, now) == value
    counted, _ = changed([Change("a", 5, 20.0, 5)], {"a": kept}, now)
    assert counted == (Counted([5], 0) if value else Counted([5], None))


def test_what_is_kept_is_changed_by_nobody_but_the_store() -> None:
    """The rule only says what is to be kept; of a forbidden step nothing."""
    kept = {"a": Kept(5, 10.0)}
    counted, after = changed([Change("b", 1, 20.0), Change("a", 1, 20.0, 6)], kept, 0.0)
    assert (counted, after) == (([1, 6], None), {"b": Kept(1, 20.0), "a": Kept(6, 20.0)})
    counted, after = changed([Change("b", 1, 20.0), Change("a", 2, 20.0, 6)], kept, 0.0)
    assert (counted, after) == (([0, 5], 1), {})
    assert kept == {"a": Kept(5, 10.0)}
