"""What the SQLite store lets go of by itself, and when: on a clock moved by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from pool.errors import DeadLetter, StoreUnavailable
from pool.events import START, Cursor, TurnFailed
from pool.store.base import SessionKey, StateChange
from pool.store.limits import Retention
from pool.store.sqlite import SqliteStore
from pool.turn import SessionInfo, TurnError, Webhook
from tests.contract.opened import Clock
from tests.contract.steps import (
    S1,
    S2,
    accept,
    commit,
    finish,
    log_of,
    make_turn,
    said,
    stamped,
    transcript_of,
)

pytestmark = pytest.mark.real_time

TABLES = ("turns", "log", "said", "keys", "states", "dead_letters", "deliveries", "gone")


class Swept:
    """A store on a file, its clock, and a look at its tables."""

    def __init__(self, path: Path, **limits: Any) -> None:
        self.path = path
        self.clock = Clock()
        self.store = SqliteStore(
            path, clock=self.clock, synchronous="normal", retention=Retention(**limits)
        )

    async def sweep(self, ticks: int = 20) -> None:
        """Let so many ticks do their step, each after a second."""
        for _ in range(ticks):
            self.clock.now += 1.0
            self.store.tick()
            await self.store.ping()

    def rows(self) -> dict[str, int]:
        """How many rows the tables have that have any."""
        sql = "SELECT count(*) FROM "
        with closing(sqlite3.connect(self.path)) as db:
            counts = {table: db.execute(sql + table).fetchone()[0] for table in TABLES}
        return {table: count for table, count in counts.items() if count}

    async def answer(self, text: str = "hello", **options: Any) -> None:
        """A turn that ends now."""
        turn = make_turn(text, at=self.clock.now, **options)
        _, lease = await accept(self.store, turn)
        await commit(self.store, lease, turn, change=StateChange("f/1", b"x"))


@asynccontextmanager
async def swept(tmp_path: Path, **limits: Any) -> AsyncIterator[Swept]:
    """Such a store, open."""
    it = Swept(tmp_path / "store.db", **limits)
    await it.store.open()
    try:
        yield it
    finally:
        await it.store.close()


async def test_an_expired_session_leaves_nothing(tmp_path: Path) -> None:
    """What has outlived its time goes from every table; what has not stays."""
    async with swept(tmp_path, session_ttl_s=100.0) as it:
        store = it.store
        await store.create_session(S2, SessionInfo(id="s2", ttl_s=10_000.0))
        turn = make_turn(webhook=Webhook("https://example.org"))
        accepted = await store.accept(turn, owner="a", key="k")
        assert accepted.lease is not None
        finish(turn, "failed")
        turn.error = TurnError(DeadLetter.code, "it crashed too often")
        events = stamped([TurnFailed(turn=turn)], turn, accepted.lease.epoch, 0)
        await store.commit(accepted.lease, turn, events)
        await it.answer()
        assert set(it.rows()) == set(TABLES) - {"gone"}
        it.clock.now += 101.0
        await it.sweep()
        assert it.rows() == {}
        assert [info.id for info in (await store.sessions("acme", None, 9)).items] == ["s2"]


async def test_an_unfinished_turn_keeps_its_session(tmp_path: Path) -> None:
    """However long it takes, and whatever the sweeps find."""
    async with swept(tmp_path, session_ttl_s=100.0, events_ttl_s=50.0) as it:
        turn = make_turn()
        _, lease = await accept(it.store, turn)
        await it.store.append(lease, stamped(said("a"), turn, lease.epoch, 0))
        for _ in range(3):
            it.clock.now += 700.0
            await it.sweep(2)
        assert [event.seq for event in (await log_of(it.store, S1))[0]] == [1]
        await commit(it.store, lease, turn)
        it.clock.now += 701.0
        await it.sweep()
        assert it.rows() == {}


async def test_old_events_are_dropped_and_readers_are_told(tmp_path: Path) -> None:
    """The events of turns that ended long ago go; the turns, the words and newer events stay."""
    async with swept(tmp_path, events_ttl_s=100.0) as it:
        store = it.store
        await it.answer("old")
        it.clock.now += 60.0
        await it.answer("new")
        whole, end = await log_of(store, S1)
        it.clock.now += 50.0
        await it.sweep(3)
        page = await store.events(S1, START, 10)
        assert page.lost == whole[3].cursor
        assert page.events == whole[4:]
        assert (await store.events(S1, whole[1].cursor, 10)).lost == whole[3].cursor
        assert (await log_of(store, S1, whole[5].cursor))[0] == whole[6:]
        assert len(await transcript_of(store, S1)) == 4
        turns = (await store.turns(S1, None, 10)).items
        assert [turn.input for turn in turns] == ["old", "new"]
        assert await store.turn_start(turns[0].id) == end
        assert await store.turn_start(turns[1].id) == whole[3].cursor
        it.clock.now += 100.0
        await it.sweep(3)
        assert (await store.events(S1, START, 10)) == ([], end)
        assert "log" not in it.rows()
        await it.answer("newest")
        log, _ = await log_of(store, S1, end)
        assert [event.seq for event in log] == [9, 10, 11, 12]


async def test_a_session_keeps_its_newest_turns(tmp_path: Path) -> None:
    """Older ones go with their keys and events; what they said stays, and places stay right."""
    async with swept(tmp_path, max_turns_per_session=8) as it:
        store = it.store
        first = make_turn("0", at=it.clock.now)
        accepted = await store.accept(first, owner="a", key="k")
        assert accepted.lease is not None
        await commit(store, accepted.lease, first)
        for number in range(1, 20):
            await it.answer(str(number))
        place = (await store.turns(S1, None, 15)).next
        await it.sweep()
        page = await store.turns(S1, None, 100)
        assert [turn.input for turn in page.items] == [str(number) for number in range(12, 20)]
        rest = await store.turns(S1, place, 100)
        assert [turn.input for turn in rest.items] == ["15", "16", "17", "18", "19"]
        assert await store.turn(first.id) is None
        assert await store.find_key(S1, "k") is None
        said = [message.content for message in await transcript_of(store, S1)]
        assert said[::2] == [str(number) for number in range(20)]
        lost = (await store.events(S1, START, 100)).lost
        assert lost is not None
        log, _ = await log_of(store, S1, lost)
        assert [event.seq for event in log] == list(range(49, 81))
        info = await store.session(S1)
        assert info is not None
        assert info.turns == 20
        forked = await store.fork_session(S1, S2, None)
        assert len(await transcript_of(store, SessionKey("acme", forked.id))) == 40


async def test_a_dropped_turns_end_leaves_the_log_with_it(tmp_path: Path) -> None:
    """A turn that ended after the next one was accepted: no event is left without its turn."""
    async with swept(tmp_path, max_turns_per_session=1) as it:
        store = it.store
        turns = [make_turn(str(number), at=it.clock.now) for number in range(4)]
        _, lease = await accept(store, turns[0])
        for turn in turns[1:]:
            await store.accept(turn, owner="a")
        for turn in turns:
            await commit(store, lease, turn)
        await it.sweep()
        assert [turn.input for turn in (await store.turns(S1, None, 9)).items] == ["3"]
        page = await store.events(S1, START, 100)
        assert page.lost == Cursor(lease.epoch, 12)
        assert {event.turn_id for event in page.events} == {turns[3].id}


async def test_an_unfinished_turn_is_never_dropped(tmp_path: Path) -> None:
    """Surplus goes up to the oldest turn that has not ended."""
    async with swept(tmp_path, max_turns_per_session=2) as it:
        store = it.store
        waiting = make_turn("waiting", at=it.clock.now)
        await it.answer("before")
        _, lease = await accept(store, waiting)
        for number in range(5):
            turn = make_turn(str(number), at=it.clock.now)
            await store.accept(turn, owner="a")
            await commit(store, lease, turn)
        await it.sweep()
        turns = [turn.input for turn in (await store.turns(S1, None, 9)).items]
        assert turns == ["waiting", "0", "1", "2", "3", "4"]
        assert await commit(store, lease, waiting)
        await it.sweep(3)


async def test_a_transcript_keeps_its_newest_words(tmp_path: Path) -> None:
    """The oldest entries go; cursors taken before still lead to the same place."""
    async with swept(tmp_path, max_messages_per_session=16) as it:
        store = it.store
        for number in range(12):
            await it.answer(str(number))
        page = await store.messages(S1, None, 10)
        await it.sweep()
        kept = [message.content for message in await transcript_of(store, S1)]
        assert kept[::2] == [str(number) for number in range(4, 12)]
        rest = await store.messages(S1, page.next, 100)
        assert rest.items[0].content == "5"
        _, lease = await accept(store, make_turn(agent="other"))
        unseen = (await store.load(lease, "other", "")).unseen
        assert [message.content for message in unseen] == kept


async def test_much_that_is_gone_is_cleared_away_bit_by_bit(tmp_path: Path) -> None:
    """One step deletes a bounded number of rows; what is left is not seen, and goes later."""
    async with swept(tmp_path) as it:
        store = it.store
        for number in range(250):
            await it.answer(str(number))
        assert await store.delete_session(S1)
        assert await store.session(S1) is None
        await it.sweep(1)
        left = it.rows()
        assert sum(left.values()) > 100
        await it.answer("new")
        await it.sweep(5)
        assert it.rows() == {"turns": 1, "log": 1, "said": 1, "states": 1}
        assert [turn.input for turn in (await store.turns(S1, None, 9)).items] == ["new"]


async def test_the_file_shrinks_when_most_of_it_is_free(tmp_path: Path) -> None:
    """Pages that fell free are given back, some at a time."""
    async with swept(tmp_path) as it:
        for number in range(40):
            key = SessionKey("acme", f"n{number}")
            await it.answer("x" * 200_000, key=key)
        for number in range(40):
            await it.store.delete_session(SessionKey("acme", f"n{number}"))
        await it.sweep(60)
    assert it.path.stat().st_size < 4_500_000


async def test_it_sweeps_only_when_it_is_due(tmp_path: Path) -> None:
    """A tick asks for nothing while the last step is on its way, nor again within a second."""
    async with swept(tmp_path, session_ttl_s=10.0) as it:
        it.store.tick()
        await it.store.ping()
        await it.answer()
        it.clock.now += 0.9
        it.store.tick()
        await it.store.ping()
        it.clock.now += 20.0
        for _ in range(3):
            it.store.tick()
        await it.store.ping()
        await it.store.ping()
        assert (await it.store.sessions("acme", None, 9)).items == []


async def test_a_sweep_that_fails_is_tried_again(tmp_path: Path) -> None:
    """While the file is locked nothing goes; a second after it is free it does."""
    async with swept(tmp_path, session_ttl_s=10.0) as it:
        await it.answer()
        it.clock.now += 20.0
        with closing(sqlite3.connect(it.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            it.store.tick()
            with pytest.raises(StoreUnavailable):
                await it.store.ping()
            other.execute("ROLLBACK")
        await it.sweep(3)
        assert it.rows() == {}
