from __future__ import annotations

from protocol.client.backoff import Patience


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def patience(limit_s=30.0, random=1.0):
    """A patience with a clock to set and a fixed random number."""
    clock = Clock()
    return Patience(limit_s, clock=clock, random=lambda: random), clock


def test_pauses_double_up_to_ten_seconds():
    """Each pause is twice the one before, and never longer than 10 s."""
    waits, _ = patience(1e9)
    assert [waits.pause_s() for _ in range(9)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_pauses_are_jittered_down_to_a_half():
    """Two clients with other random numbers pause differently."""
    waits, _ = patience(random=0.0)
    assert [waits.pause_s() for _ in range(3)] == [0.05, 0.1, 0.2]


def test_a_pause_past_the_limit_is_not_begun():
    """When the next pause would outlast the limit, it is time to give up."""
    waits, clock = patience(10.0)
    clock.now += 9.8
    assert waits.pause_s() == 0.1
    assert waits.pause_s() == 0.2
    assert waits.pause_s() is None


def test_what_the_server_asks_for_is_kept_and_spread():
    """Nobody comes back sooner than asked, and not all at once."""
    assert patience(random=0.0)[0].pause_s(5.0) == 5.0
    assert patience(random=1.0)[0].pause_s(5.0) == 6.0
    assert patience(4.0, random=0.0)[0].pause_s(5.0) is None


def test_reset_begins_anew():
    """After something worked, pauses and limit start from the beginning."""
    waits, clock = patience(10.0)
    for _ in range(5):
        waits.pause_s()
    clock.now += 11
    waits.reset()
    assert waits.pause_s() == 0.1


def test_a_connection_that_lasted_counts_as_having_worked():
    """A break after a long quiet connection is a first break; after a short one it is not."""
    waits, clock = patience(10.0)
    waits.connected()
    clock.now += 60
    assert waits.pause_s() == 0.1
    waits.connected()
    clock.now += 1
    assert waits.pause_s() == 0.2
    clock.now += 60
    assert waits.pause_s() is None


def test_any_number_of_tries_is_fine():
    """The pause does not overflow, however often it is asked for."""
    waits, _ = patience(float("inf"))
    assert {waits.pause_s() for _ in range(5_000)} >= {10.0}
