"""The concurrency limit and its permits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pool.limiter import Limiter


def limiter(limit: int = 10, ceiling: int = 20) -> Limiter:
    """A limiter with the usual decrease."""
    return Limiter("x", limit=limit, ceiling=ceiling, decrease=0.9, window_s=1.0)


def test_permits_run_out_and_come_back() -> None:
    """As many as the limit may be held, and one given back can be taken again."""
    two = limiter(2)
    assert [two.take(), two.take(), two.take()] == [True, True, False]
    assert repr(two) == "<Limiter 'x' [2 held, 0 free, limit 2]>"
    two.give()
    assert two.take()


def test_overload_lowers_once_a_window() -> None:
    """Many overloads within a window count once: nine tenths of the limit."""
    it = limiter(10)
    assert it.overloaded(100.0)
    assert not it.overloaded(100.9)
    assert it.limit == 9
    assert it.overloaded(101.0)
    assert it.limit == 8


def test_the_limit_never_falls_below_one() -> None:
    """However often the provider refuses, one turn may try."""
    it = limiter(3)
    for now in range(100):
        it.overloaded(float(now))
    assert it.limit == 1


def test_a_limit_of_successes_raises_by_one() -> None:
    """As many successes as the limit, while at least half of it is in use."""
    it = limiter(4)
    it.take()
    it.take()
    assert [it.succeeded() for _ in range(4)] == [False, False, False, True]
    assert it.limit == 5


def test_an_unused_limit_does_not_rise() -> None:
    """Successes while less than half is held prove nothing."""
    it = limiter(4)
    it.take()
    assert not any(it.succeeded() for _ in range(50))
    assert it.limit == 4


def test_the_limit_stops_at_its_ceiling() -> None:
    """It never rises above what the actors can use."""
    it = limiter(2, ceiling=3)
    for _ in range(3):
        it.take()
    for _ in range(50):
        it.succeeded()
    assert it.limit == 3


def test_lowering_while_held_takes_nothing_away() -> None:
    """Held permits stay held; none is free until enough came back."""
    it = limiter(10)
    for _ in range(10):
        it.take()
    it.overloaded(0.0)
    assert (it.held, it.free, it.take()) == (10, 0, False)
    it.give()
    it.give()
    assert it.take()


def test_resizing_follows_only_a_limit_at_its_ceiling() -> None:
    """A limit lowered by overload is not raised by more actors; one never lowered is."""
    full, lowered = limiter(20), limiter(20)
    lowered.overloaded(0.0)
    full.resize(40)
    lowered.resize(40)
    assert (full.limit, lowered.limit) == (40, 18)
    full.resize(5)
    assert full.limit == 5


@given(st.lists(st.sampled_from(["take", "give", "good", "bad", "up", "down"])))
def test_free_and_held_make_the_total(steps: list[str]) -> None:
    """Permits free + held = total, unless more are held than a lowered total (invariant 6)."""
    it, held, now = limiter(5), 0, 0.0
    for step in steps:
        now += 0.7
        match step:
            case "take":
                held += it.take()
            case "give" if held:
                it.give()
                held -= 1
            case "good":
                it.succeeded()
            case "bad":
                it.overloaded(now)
            case "up":
                it.resize(it.ceiling + 1)
            case "down" if it.ceiling > 1:
                it.resize(it.ceiling - 1)
        assert it.held == held
        assert it.free == max(0, it.limit - held)
        assert 1 <= it.limit <= it.ceiling
