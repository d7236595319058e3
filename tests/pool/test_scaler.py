"""How many actors an agent should have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.scaler import Hold, startable, surplus, wanted


@pytest.mark.parametrize(
    ("busy", "queued", "limit", "expected"),
    [
        (0, 0, 100, 2),
        (4, 0, 100, 5),
        (4, 4, 100, 10),
        (40, 4, 100, 20),
        (40, 4, 7, 7),
        (0, 0, 1, 2),
    ],
)
def test_wanted_keeps_a_fifth_free(busy: int, queued: int, limit: int, expected: int) -> None:
    """`clamp(ceil((busy + queued) / 0.8), 2, min(20, limit))`."""
    assert wanted(busy=busy, queued=queued, least=2, most=20, limit=limit) == expected


def test_hold_remembers_the_largest_of_its_window() -> None:
    """What was wanted once is kept until the window has passed."""
    hold = Hold(90.0)
    assert [hold.note(n, t) for t, n in [(0, 3), (10, 9), (20, 4), (99, 2)]] == [3, 9, 9, 9]
    assert hold.note(2, 100.0) == 4
    assert hold.note(2, 110.1) == 2


@given(st.lists(st.integers(0, 20), min_size=1))
def test_hold_is_a_sliding_maximum(numbers: list[int]) -> None:
    """It says what looking at the whole window would say."""
    hold = Hold(5.0)
    for now, number in enumerate(numbers):
        window = numbers[max(0, now - 4) : now + 1]
        assert hold.note(number, float(now)) == max(window)


@given(*[st.integers(0, 30)] * 5)
def test_starting_stays_within_bounds(
    live: int, starting: int, want: int, start_limit: int, idle: int
) -> None:
    """Never more than wanted, never more than `start_limit` together (invariant 14)."""
    start = startable(live=live, starting=starting, want=want, start_limit=start_limit)
    assert start >= 0
    assert not start or live + starting + start <= want
    assert not start or starting + start <= start_limit
    stop = surplus(live=live, idle=min(idle, live), starting=starting, keep=want)
    assert 0 <= stop <= min(idle, live)
    assert not stop or live + starting - stop >= want
