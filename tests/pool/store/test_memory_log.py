"""The log of a session in memory: what is trimmed takes nothing any more."""

from __future__ import annotations

import pytest

from pool.errors import Internal, LeaseLost
from pool.events import START, Cursor, Event, TextDelta
from pool.store.memory_log import EventLog


def _log() -> EventLog:
    """Three epochs: 10 with the places 1 and 2, 20 with nothing, 30 with 3 and 4."""
    log = EventLog()
    for epoch, places in ((10, (1, 2)), (20, ()), (30, (3, 4))):
        log.begin(epoch)
        log.add([TextDelta(text=str(seq), epoch=epoch, seq=seq) for seq in places], epoch)
    return log


def test_the_end_is_the_newest_events() -> None:
    """An epoch that wrote nothing does not move the end; in an empty log the newest epoch is it."""
    log = EventLog()
    assert log.end == START
    log.begin(10)
    log.begin(20)
    assert log.end == Cursor(20, 0)
    log.add([TextDelta(text="x", epoch=20, seq=1)], 20)
    log.begin(30)
    assert log.end == Cursor(20, 1)
    assert _log().end == Cursor(30, 4)


def test_a_trimmed_log_forgets_epochs_before_it() -> None:
    """What lies before the first kept event is let go, epochs included; the rest can be read."""
    log = _log()
    assert log.trim(3) == 3
    assert log.epochs == ((30, 3),)
    assert log.after(START, 10).lost == Cursor(30, 3)
    assert [event.seq for event in log.after(Cursor(30, 3), 10).events] == [4]
    assert log.trim(2) == 0
    assert log.trim(100) == 1
    assert (log.end, log.seq) == (Cursor(30, 4), 4)


def test_restored_events_get_their_places_back() -> None:
    """Epochs and places are told by the log, wherever it begins."""
    for base in range(5):
        log = _log()
        log.trim(base)
        places = [event.cursor for event in log.events]
        blank: list[Event] = [TextDelta(text="") for _ in places]
        log.restore(blank)
        assert [event.cursor for event in blank] == places


def _delta(epoch: int, seq: int, text: str = "x", turn_id: str = "") -> Event:
    return TextDelta(text=text, epoch=epoch, seq=seq, turn_id=turn_id)


@pytest.mark.parametrize(
    "events",
    [
        [_delta(30, 5), _delta(30, 7)],
        [_delta(31, 5)],
        [_delta(30, 3, turn_id="another")],
        [_delta(20, 4), _delta(30, 5)],
    ],
    ids=["with a gap", "of another epoch", "of another turn", "partly of another epoch"],
)
def test_events_that_are_stamped_wrongly_are_a_defect(events: list[Event]) -> None:
    """What is not dense, or not what is here already, is refused whole."""
    log = _log()
    with pytest.raises(Internal, match="stamp events densely"):
        log.add(events, 30)
    assert log.end == Cursor(30, 4)
    assert len(log.events) == 4


def test_events_behind_a_gap_say_what_was_lost() -> None:
    """Whoever wrote what is missing here does not hold the session: the log says where it ends."""
    log = _log()
    with pytest.raises(LeaseLost, match=r"30-6.*ends at 30-4"):
        log.add([_delta(30, 6)], 30)
    assert log.end == Cursor(30, 4)


@pytest.mark.parametrize("base", range(5))
def test_a_log_that_was_carried_reads_as_before(base: int) -> None:
    """From any cursor into what is left of it, wherever that begins."""
    log = _log()
    log.trim(base)
    carried = EventLog.carried(log.events, log.end)
    assert (carried.end, carried.base, carried.seq) == (log.end, log.base, log.seq)
    for cursor in (event.cursor for event in log.events):
        assert carried.after(cursor, 10) == log.after(cursor, 10)
    lost = carried.after(START, 10).lost
    assert (lost.seq if lost else 0) == base
    assert list(carried.after(lost or START, 10).events) == log.events
    carried.begin(40)
    assert carried.add([_delta(40, 5)], 40) == 1


def test_a_log_without_a_beginning_is_carried() -> None:
    """One that has had no event yet: the next one's place is the first."""
    carried = EventLog.carried([], START)
    assert (carried.end, carried.epochs) == (START, ())
    carried.begin(10)
    assert carried.add([_delta(10, 1)], 10) == 1


def test_turns_start_where_their_first_event_is() -> None:
    """For each turn that has events here the place before the first."""
    log = EventLog()
    log.begin(10)
    log.add([_delta(10, seq, turn_id=turn_id) for seq, turn_id in enumerate("aabab", 1)], 10)
    assert log.starts() == {"a": 0, "b": 2}
    log.trim(2)
    assert log.starts() == {"b": 2, "a": 3}
