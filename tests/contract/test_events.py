"""The session's log: dense, replayable from any cursor, and honest about what is gone."""

from __future__ import annotations

import pytest

from pool.errors import LeaseLost
from pool.events import (
    START,
    ApprovalDecided,
    ApprovalRequested,
    Cursor,
    Event,
    ModelDecided,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCompleted,
    TurnQueued,
    TurnStarted,
    UsageReported,
)
from pool.store.base import StateChange
from pool.turn import Usage
from tests.contract.steps import (
    OTHER,
    S1,
    accept,
    answer,
    commit,
    finish,
    log_of,
    make_turn,
    said,
    stamped,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store


async def test_every_kind_of_event_is_given_back_as_it_was(opening: Opening) -> None:
    """Whatever happens in a turn is replayed exactly, with its place and time."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        events: list[Event] = [
            TurnQueued(position=3, at=1.5),
            TurnStarted(attempt=2, at=2.5),
            ReasoningDelta(text="hm"),
            ReasoningDelta(text="m"),
            TextDelta(text="grüß "),
            TextDelta(text=""),
            TextDelta(text="dich 👋"),
            ToolCalled(call_id="c", name="find", arguments={"q": [1, None]}, at=3.5),
            ToolReturned(call_id="c", result={"n": 1.5}, is_error=True, at=4.5),
            ApprovalRequested(
                call_id="d", name="buy", arguments={}, risk="dangerous", expires_at=99.5, at=5.5
            ),
            ApprovalDecided(call_id="d", decision="deny", by="eve", at=6.5),
            TextDelta(text="bye"),
            UsageReported(usage=Usage(1, 2, 3, 4, 0.5, ("m",)), at=7.5),
            ModelDecided(step="retried", model="m", reason="503", at=7.6),
        ]
        await store.append(lease, stamped(events, turn, lease.epoch, 0), turn)
        finish(turn, output="grüß dich 👋bye")
        end = stamped([TurnCompleted(turn=turn, at=8.5)], turn, lease.epoch, len(events))
        await store.commit(lease, turn, end)
        assert (await log_of(store, S1))[0] == events + end


async def test_a_log_is_served_from_any_cursor(opening: Opening) -> None:
    """Every event's cursor is a place to go on from, in pages of any size."""
    async with opening() as (store, _):
        await answer(store, output="abc")
        await answer(store, output="def")
        log, end = await log_of(store, S1)
        assert [event.seq for event in log] == list(range(1, 9))
        for limit in (1, 3, 100):
            assert (await log_of(store, S1, START, limit))[0] == log
        for number, event in enumerate(log, 1):
            assert (await log_of(store, S1, event.cursor))[0] == log[number:]
        assert (await log_of(store, S1, Cursor(end.epoch, 0)))[0] == log


async def test_a_page_has_at_most_its_limit(opening: Opening) -> None:
    """`limit` bounds what is read at once."""
    async with opening() as (store, _):
        await answer(store)
        page = await store.events(S1, START, 3)
        assert [event.seq for event in page.events] == [1, 2, 3]


async def test_a_gap_is_refused_whole(opening: Opening) -> None:
    """What was written before these events is lost: whoever wrote it has the session no more."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        await store.append(lease, stamped(said("a", "b"), turn, lease.epoch, 0))
        log = await log_of(store, S1)
        later = stamped(said("d"), turn, lease.epoch, 3)
        paused = make_turn()
        paused.id, paused.state = turn.id, "waiting"
        with pytest.raises(LeaseLost):
            await store.append(lease, later, paused, StateChange("f/1", b"x"))
        with pytest.raises(LeaseLost):
            await store.commit(lease, finish(paused), later)
        assert await log_of(store, S1) == log
        kept = await store.turn(turn.id)
        assert kept is not None
        assert (kept.state, kept.output) == ("queued", "")
        assert (await store.load(lease, "helper", turn.id)).data is None
        assert await commit(store, lease, turn)


async def test_events_sent_again_are_kept_once(opening: Opening) -> None:
    """A writer that lost the answer sends them again, alone, with more, or with the commit."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        events = stamped(said("a", "b", "c", "d", "e"), turn, lease.epoch, 0)
        for first, end in ((0, 2), (0, 2), (1, 2), (0, 3), (2, 4)):
            await store.append(lease, events[first:end])
        await store.commit(lease, finish(turn), events[3:])
        assert (await log_of(store, S1))[0] == events


async def test_a_cursor_at_the_end_gives_nothing(opening: Opening) -> None:
    """At the end, and past it in the newest epoch, nothing is to be read, and nothing lost."""
    async with opening() as (store, _):
        await answer(store)
        _, end = await log_of(store, S1)
        for cursor in (end, Cursor(end.epoch, end.seq + 10)):
            assert await store.events(S1, cursor, 10) == ([], None)


async def test_an_unknown_epoch_is_told_that_history_is_lost(opening: Opening) -> None:
    """A cursor of an epoch that the session never had: lost, and reading goes on after `lost`."""
    async with opening() as (store, _):
        await answer(store)
        log, end = await log_of(store, S1)
        for cursor in (Cursor(end.epoch - 1, 2), Cursor(end.epoch + 1, 2), Cursor(0, 2)):
            page = await store.events(S1, cursor, 10)
            assert page.lost is not None
            assert (await log_of(store, S1, page.lost))[0] == log
            assert list(page.events) in ([], log)


async def test_events_that_an_epoch_never_had_are_told_as_lost(opening: Opening) -> None:
    """A cursor past the end of an epoch that is over: what it read never reached this log."""
    async with opening() as (store, _):
        first = await answer(store, owner="a")
        log, end = await log_of(store, S1)
        await answer(store, owner="b")
        page = await store.events(S1, Cursor(end.epoch, end.seq + 2), 10)
        assert page.lost == end
        rest, _ = await log_of(store, S1, page.lost)
        assert len(rest) == 4
        assert first.id not in {event.turn_id for event in rest}
        assert (await log_of(store, S1, end))[0] == rest
        assert log[-1].cursor == end


async def test_an_epoch_without_any_event_loses_only_its_own(opening: Opening) -> None:
    """Its holder was gone before it had stored anything: what was read before it stays valid."""
    async with opening() as (store, _):
        await answer(store, owner="a")
        _, end = await log_of(store, S1)
        _, silent = await accept(store, make_turn("silent"), "b")
        await store.leave("b")
        taken = await store.claim(S1, "c")
        assert taken is not None
        page = await store.events(S1, Cursor(silent.epoch, end.seq + 2), 10)
        assert page.lost is not None
        assert page.lost.seq == end.seq
        assert list(page.events) == []
        assert (await log_of(store, S1, page.lost))[0] == []


async def test_a_session_that_is_gone_has_lost_its_history(opening: Opening) -> None:
    """A reader of a session that does not exist any more is told, one from its beginning is not."""
    async with opening() as (store, _):
        assert await store.events(S1, START, 10) == ([], None)
        page = await store.events(S1, Cursor(5, 7), 10)
        assert page.lost == START
        assert not page.events


async def test_a_turns_start_is_just_before_its_first_event(opening: Opening) -> None:
    """From its start on a turn's events are all there, also those that lie between another's."""
    async with opening() as (store, _):
        first, second = make_turn(), make_turn()
        _, lease = await accept(store, first)
        await store.append(lease, stamped(said("a", "b"), first, lease.epoch, 0))
        await store.accept(second, owner="a")
        await store.append(lease, stamped(said("c"), first, lease.epoch, 2))
        await store.append(lease, stamped([TurnQueued(at=1.0)], second, lease.epoch, 3))
        await store.append(lease, stamped(said("d"), first, lease.epoch, 4))
        assert await store.turn_start(first.id) in (START, Cursor(lease.epoch, 0))
        assert await store.turn_start(second.id) == Cursor(lease.epoch, 3)
        await commit(store, lease, first)
        await commit(store, lease, second)
        assert await store.turn_start(second.id) == Cursor(lease.epoch, 3)


async def test_a_turn_without_events_starts_at_the_end(opening: Opening) -> None:
    """All that is written from now on comes after the start of a turn that has no events yet."""
    async with opening() as (store, _):
        await answer(store)
        _, end = await log_of(store, S1)
        turn = make_turn()
        await store.accept(turn, owner="a")
        assert await store.turn_start(turn.id) == end


async def test_an_unknown_turn_has_no_start(opening: Opening) -> None:
    """`turn_start` of a turn that nobody accepted is None."""
    async with opening() as (store, _):
        assert await store.turn_start(make_turn().id) is None


async def test_places_are_dense_across_owners(opening: Opening) -> None:
    """The next owner goes on where the last stopped, in a later epoch, at the next place."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, old = await accept(store, turn, "a")
        await store.append(old, stamped(said("a", "b"), turn, old.epoch, 0))
        await pass_time(store.lease_s * 1.1)
        accepted, new = await accept(store, make_turn("next"), "b")
        assert accepted.end == Cursor(old.epoch, 2)
        for turn in (await store.turns(S1, None, 2)).items:
            await commit(store, new, turn)
        log, _ = await log_of(store, S1)
        assert [event.seq for event in log] == list(range(1, 11))
        assert [event.epoch for event in log] == [old.epoch] * 2 + [new.epoch] * 8
        for number, event in enumerate(log, 1):
            assert (await log_of(store, S1, event.cursor))[0] == log[number:]


async def test_logs_of_sessions_are_apart(opening: Opening) -> None:
    """Each session has a log of its own, also under the same id of another tenant."""
    async with opening() as (store, _):
        await answer(store, "one")
        await answer(store, "two", key=OTHER)
        log, _ = await log_of(store, OTHER)
        assert [event.seq for event in log] == [1, 2, 3, 4]
        ended = log[-1]
        assert isinstance(ended, TurnCompleted)
        assert ended.turn.tenant == "other"
