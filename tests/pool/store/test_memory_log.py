"""The log of a session in memory: what is trimmed takes nothing any more."""

from __future__ import annotations

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
