from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pool.events import Cursor, TextDelta, TurnQueued
from protocol.ws.window import Allowance, Window, may_go


def test_a_window_closes_when_it_is_full_and_opens_when_acknowledged():
    """So many unacknowledged events, and no more; one acknowledgement covers all before it."""
    window = Window(3)
    for seq in (1, 5, 9):
        window.sent(Cursor(1, seq))
    assert window.room == 0
    assert window.acknowledge(Cursor(1, 5))
    assert window.room == 2
    assert repr(window) == "<Window 1 of 3>"


def test_acknowledging_while_the_window_is_open_opens_nothing():
    """Only a window that was closed can be opened."""
    window = Window(3)
    window.sent(Cursor(1, 1))
    assert not window.acknowledge(Cursor(1, 1))
    assert window.room == 3


def test_acknowledging_nothing_new_opens_nothing():
    """An old cursor, given again, has no effect."""
    window = Window(1)
    window.sent(Cursor(1, 5))
    assert not window.acknowledge(Cursor(1, 4))
    assert window.room == 0


def test_a_joined_event_counts_once():
    """What counts is what was sent, not how many deltas it was made of."""
    window = Window(2)
    window.sent(Cursor(1, 100))
    assert window.room == 1


def test_a_later_epoch_is_later_whatever_its_place():
    """After a failover places may begin lower; the epoch decides."""
    window = Window(2)
    window.sent(Cursor(1, 900))
    window.sent(Cursor(2, 3))
    assert window.acknowledge(Cursor(1, 900))
    assert window.room == 1
    window.acknowledge(Cursor(3, 1))
    assert window.room == 2


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 60))
def test_room_is_the_size_less_what_is_unacknowledged(steps, acknowledged):
    """For any places and any acknowledgement, the room is what a count gives."""
    window = Window(100)
    place, places = 0, []
    for step in steps:
        place += step
        places.append(place)
        window.sent(Cursor(1, place))
    window.acknowledge(Cursor(1, acknowledged))
    assert window.room == 100 - sum(place > acknowledged for place in places)


def test_a_reader_may_fall_behind_to_the_high_water_mark():
    """At the mark it is still within its allowance, past it not."""
    allowance = Allowance(10, 0)
    assert not allowance.exceeded(10)
    assert allowance.exceeded(11)


def test_a_reader_that_resumes_from_far_back_may_catch_up():
    """What it was behind at first does not count, until it has been nearer."""
    allowance = Allowance(10, 1_000)
    assert not allowance.exceeded(1_010)
    assert not allowance.exceeded(500)
    assert not allowance.exceeded(510)
    assert allowance.exceeded(511)


def test_no_more_events_go_than_there_is_room():
    """The room limits what goes."""
    events = [TextDelta("a"), TextDelta("b")]
    assert may_go(events, 1, until_queued=False) == 1
    assert may_go(events, 9, until_queued=False) == 2


def test_while_a_turn_is_accepted_only_what_comes_before_its_first_event_goes():
    """The answer to a turn precedes the turn's events; a running turn's events go on."""
    events = [TextDelta("a"), TurnQueued(), TextDelta("b")]
    assert may_go(events, 9, until_queued=True) == 1
    assert may_go(events, 9, until_queued=False) == 3
