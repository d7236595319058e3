"""When to try again."""

from __future__ import annotations

from random import Random

from pool.backoff import Backoff


def backoff(tolerated: int = 100, seed: int = 1) -> Backoff:
    """0.1 s at first, 30 s at most, forgotten after a minute."""
    return Backoff(
        first_s=0.1,
        max_s=30.0,
        quiet_s=60.0,
        tolerated=tolerated,
        window_s=30.0,
        random=Random(seed),
    )


def test_waits_double_within_bounds() -> None:
    """The n-th wait is half to whole of first * 2**(n-1), at most max (invariant 13)."""
    for seed in range(50):
        it, now = backoff(seed=seed), 0.0
        for n in range(20):
            full_s = min(30.0, 0.1 * 2**n)
            wait_s = it.failed(now)
            assert full_s / 2 <= wait_s <= full_s
            now += wait_s


def test_a_quiet_time_forgets() -> None:
    """After a minute without failures the first wait is short again."""
    it = backoff()
    for now in range(5):
        it.failed(float(now))
    assert it.failed(70.0) <= 0.1


def test_too_many_in_the_window_are_excessive() -> None:
    """More than tolerated within the window; it has room again when the oldest have left it."""
    it = backoff(tolerated=2)
    it.failed(0.0)
    it.failed(1.0)
    assert not it.excessive(1.0)
    wait_s = it.failed(2.0)
    assert it.excessive(2.0)
    assert wait_s >= 28.0
    assert not it.excessive(2.0 + wait_s)


def test_many_failures_do_not_overflow() -> None:
    """A thing that failed for years still waits `max_s` at most."""
    it = backoff(tolerated=0)
    assert all(it.failed(now * 1.0) <= 30.0 for now in range(3_000))
