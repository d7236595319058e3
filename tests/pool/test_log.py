"""The tail of a session's log."""

from __future__ import annotations

from collections.abc import Sequence

from pool.events import Cursor, Event, TextDelta, TurnStarted
from pool.log import KEEP, Log, log_from
from pool.reader import join_deltas


def log_of(count: int) -> Log:
    """A log that goes on after place 10 with so many deltas."""
    log = log_from(Cursor(7, 10))
    for n in range(count):
        log.add(TextDelta(str(n)), "t", "s")
    return log


def ids(events: Sequence[Event]) -> list[str]:
    """The places of events."""
    return [event.id for event in events]


def test_places_are_dense_and_increasing() -> None:
    """Each event gets the next place under the writer's epoch (invariant 11)."""
    log = log_of(3)
    assert ids(log.after(Cursor(7, 10), 10)) == ["7-11", "7-12", "7-13"]
    assert log.end == Cursor(7, 13)
    assert repr(log) == "<Log 7-13 [3 events, 0 readers]>"


def test_a_limit_cuts_what_is_read() -> None:
    """At most so many events at once, from the cursor on."""
    assert ids(log_of(5).after(Cursor(7, 12), 2)) == ["7-13", "7-14"]


def test_what_is_held_is_shown_only_after_the_store_has_it() -> None:
    """A terminal event, and what follows it, stays hidden until it is `stored`."""
    log, woken = log_of(1), []
    log.hold(TextDelta("end"), "t", "s")
    log.add(TextDelta("next"), "u", "s")
    log.listen(lambda: woken.append(1))
    assert ids(log.after(Cursor(7, 10), 10)) == ["7-11"]
    assert log.visible_end == Cursor(7, 11)
    log.stored(log.take_unstored())
    assert woken == [1]
    assert ids(log.after(Cursor(7, 10), 10)) == ["7-11", "7-12", "7-13"]


def test_what_the_store_never_took_did_not_happen() -> None:
    """Dropping what was held frees its places."""
    log = log_of(1)
    log.hold(TextDelta("end"), "t", "s")
    log.take_unstored()
    log.drop_held()
    assert log.end == Cursor(7, 11)
    log.add(TextDelta("other"), "t", "s")
    assert ids(log.take_unstored()) == ["7-12"]


def test_the_store_gets_each_event_once() -> None:
    """`take_unstored` gives what is new, and again what the store did not take."""
    log = log_of(2)
    first = log.take_unstored()
    assert ids(first) == ["7-11", "7-12"]
    assert log.unstored == 0
    log.add(TextDelta("x"), "t", "s")
    log.untake(first)
    assert log.unstored == 3
    assert ids(log.take_unstored()) == ["7-11", "7-12", "7-13"]
    assert log.take_unstored() == []


def test_trimming_keeps_what_is_not_stored_and_some_for_readers() -> None:
    """Nobody listens: nothing stored is kept. Somebody does: the last of it."""
    log = log_of(KEEP + 100)
    log.trim()
    assert log.covers(Cursor(7, 10))
    taken = log.take_unstored()
    # on their way: should they not arrive, they are needed again
    log.trim()
    assert log.covers(Cursor(7, 10))
    log.listen(print)
    log.stored(taken)
    assert not log.covers(Cursor(7, 109))
    assert log.covers(Cursor(7, 110))
    log.unlisten(print)
    log.trim()
    assert not log.covers(Cursor(7, 10 + KEEP))
    assert log.covers(log.end)


def test_a_new_epoch_goes_on_after_what_is_stored() -> None:
    """A claimed session's log continues the places under the new epoch."""
    log = log_of(1)
    log.take_unstored()
    log.resume(Cursor(9, 20))
    log.add(TextDelta("x"), "t", "s")
    assert log.end == Cursor(9, 21)
    assert not log.covers(Cursor(7, 11))


def test_neighbouring_deltas_of_a_turn_are_joined() -> None:
    """The joined delta has the last one's place; other events and turns stay apart."""
    log = log_from(Cursor(1, 0))
    for event, turn in [
        (TextDelta("a"), "t"),
        (TextDelta("b"), "t"),
        (TurnStarted(), "t"),
        (TextDelta("c"), "t"),
        (TextDelta("d"), "u"),
    ]:
        log.add(event, turn, "s")
    joined = join_deltas(log.after(Cursor(1, 0), 10))
    texts = [(e.id, e.turn_id, e.text if isinstance(e, TextDelta) else e.type) for e in joined]
    assert texts == [
        ("1-2", "t", "ab"),
        ("1-3", "t", "turn.started"),
        ("1-4", "t", "c"),
        ("1-5", "u", "d"),
    ]
    assert [e.text for e in log.after(Cursor(1, 0), 2) if isinstance(e, TextDelta)] == ["a", "b"]
