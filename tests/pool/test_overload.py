"""Standing overload."""

from __future__ import annotations

from pool.overload import Overload


def overload() -> Overload:
    """A target of 1 s over windows of 10 s, from time 0."""
    return Overload(target_s=1.0, window_s=10.0, now=0.0)


def bad_window(it: Overload, now: float) -> None:
    """A window in which everybody waited 3 s or more, and the oldest still does."""
    it.waited(5.0)
    it.waited(3.0)
    it.roll(now, 4.0)


def test_a_burst_sheds_nothing() -> None:
    """Long waits do not count while one turn of the window started soon."""
    it = overload()
    it.waited(9.0)
    it.waited(0.2)
    it.roll(10.0, 9.0)
    assert it.shedding == ()


def test_standing_overload_sheds_batch_then_default_never_interactive() -> None:
    """One class more for each bad window, and the last is never shed."""
    it = overload()
    bad_window(it, 10.0)
    assert it.shedding == ("batch",)
    bad_window(it, 20.0)
    assert it.shedding == ("default", "batch")
    bad_window(it, 30.0)
    assert it.shedding == ("default", "batch")
    assert not it.sheds("interactive")
    assert it.sheds("default")


def test_a_good_window_ends_it() -> None:
    """A single short wait in a window is enough."""
    it = overload()
    bad_window(it, 10.0)
    it.waited(0.9)
    it.roll(20.0, 5.0)
    assert it.shedding == ()


def test_a_window_without_starts_is_judged_by_who_waits() -> None:
    """Nothing started for ten seconds and somebody waits: that is overload too."""
    it = overload()
    it.roll(10.0, 9.0)
    assert it.shedding == ("batch",)


def test_an_empty_queue_ends_it() -> None:
    """Nobody waits any longer, whatever was."""
    it = overload()
    bad_window(it, 10.0)
    it.waited(3.0)
    it.roll(50.0, 0.0)
    assert it.shedding == ()
