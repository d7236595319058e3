"""What only the SQLite store promises: it lasts, belongs to one server, and fails whole."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pool.errors import ConfigError, Conflict, InvalidRequest, StoreUnavailable
from pool.store.base import SessionKey, StateChange
from pool.store.sharing import CancelTurn
from pool.store.sqlite import SqliteStore
from pool.store.sqlite_writer import KNOWN_MAX
from pool.turn import SessionInfo, TurnRequest
from tests.contract.opened import Clock
from tests.contract.steps import S1, S2, accept, answer, commit, log_of, make_turn, transcript_of

pytestmark = pytest.mark.real_time


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteStore]:
    """A store on the file, open."""
    store = SqliteStore(path, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


# --- it lasts


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    """Turns, events, transcript, states, keys and sessions read as before in the next process."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.create_session(S2, SessionInfo(id="s2", agent="x", metadata={"a": [1]}))
        turn = await answer(store, change=StateChange("f/1", b"state"))
        keyed = make_turn("keyed")
        accepted = await store.accept(keyed, owner="a", key="k")
        assert accepted.lease is not None
        await commit(store, accepted.lease, keyed)
        before = await log_of(store, S1), await transcript_of(store, S1), await store.session(S1)
    async with opened(path) as store:
        now = await log_of(store, S1), await transcript_of(store, S1), await store.session(S1)
        assert now == before
        assert await store.turn(turn.id) == turn
        assert (await store.accept(make_turn("keyed"), owner="b", key="k")).turn == keyed
        _, lease = await accept(store, make_turn(), "b")
        assert (await store.load(lease, "helper", "")).data == b"state"
        info = await store.session(S2)
        assert info is not None
        assert (info.agent, info.metadata) == ("x", {"a": [1]})


async def test_what_was_not_ended_is_orphaned_by_a_restart(tmp_path: Path) -> None:
    """The next process finds it at once, under whatever name, in a later epoch."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        await store.join("a", lambda nudge: None)
        turn = make_turn()
        _, old = await accept(store, turn)
        await answer(store, key=S2)
        assert list(await store.orphans(10)) == []
    async with opened(path) as store:
        await store.join("a", lambda nudge: None)
        assert list(await store.orphans(10)) == [S1]
        claim = await store.claim(S1, "a")
        assert claim is not None
        assert claim.lease.epoch > old.epoch
        assert [(number, each.id) for number, each in claim.turns] == [(1, turn.id)]
        assert list(await store.orphans(10)) == []


async def test_a_restart_voids_the_lease_of_who_comes_back(tmp_path: Path) -> None:
    """An owner of the same name does not go on in its old epoch: the old process may still run."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        turn = make_turn()
        _, old = await accept(store, turn)
    async with opened(path) as store:
        _, new = await accept(store, make_turn("next"))
        assert new.epoch > old.epoch
        assert (await store.signal(S1, CancelTurn(turn.id))) is True


async def test_a_number_of_a_session_never_comes_again(tmp_path: Path) -> None:
    """What is left of a deleted session is not taken for a new one's; versions stay unique."""
    path = tmp_path / "store.db"
    versions = set()
    for _ in range(2):
        async with opened(path) as store:
            for key in (S1, S2):
                turn = make_turn(key=key)
                _, lease = await accept(store, turn)
                await store.append(lease, [], turn, StateChange("f/1", b"x"))
                versions.add((await store.load(lease, "helper", turn.id)).version)
                await commit(store, lease, turn, state="failed")
                deleted, made = await asyncio.gather(
                    store.delete_session(key),
                    store.create_session(key, SessionInfo(id=key.id)),
                )
                assert deleted
                assert made.turns == 0
                assert await store.delete_session(key)
            store.tick()
    assert len(versions) == 4


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """What was asked for before `close` is done; what comes after is refused."""
    path = tmp_path / "store.db"
    turns = [make_turn(key=SessionKey("acme", f"n{number}")) for number in range(300)]
    async with opened(path) as store:
        waiting = [asyncio.ensure_future(store.accept(turn, owner="a")) for turn in turns]
        await asyncio.sleep(0)
        await store.close()
        assert all(accepted.new for accepted in await asyncio.gather(*waiting))
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.ping()
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.session(S1)
        store.tick()
        await store.close()
    async with opened(path) as store:
        assert len((await store.sessions("acme", None, 1_000)).items) == 300


async def test_who_leaves_does_not_undo_what_was_asked(tmp_path: Path) -> None:
    """A caller that is cancelled hears nothing, but its turn is kept."""
    async with opened(tmp_path / "store.db") as store:
        turn = make_turn()
        asked = asyncio.ensure_future(store.accept(turn, owner="a"))
        await asyncio.sleep(0)
        asked.cancel()
        await store.ping()
        assert await store.turn(turn.id) == turn


# --- it belongs to one server


async def test_a_second_server_is_refused(tmp_path: Path) -> None:
    """Who opens a file that is in use is told by which process; later it may."""
    path = tmp_path / "store.db"
    async with opened(path):
        with pytest.raises(ConfigError, match=rf"in use by process {os.getpid()}: end that"):
            await SqliteStore(path).open()
    async with opened(path):
        pass


async def test_an_operator_may_look_on(tmp_path: Path) -> None:
    """A store that is not exclusive reads and writes beside the server, and voids no lease."""
    path = tmp_path / "store.db"
    async with opened(path) as server:
        await server.join("a", lambda nudge: None)
        turn = make_turn()
        _, lease = await accept(server, turn)
        async with opened(path, exclusive=False) as operator:
            assert await operator.turn(turn.id) == turn
            assert list(await operator.orphans(10)) == []
            assert await operator.claim(S1, "b") is None
            requeued = make_turn("again", key=S2)
            assert (await operator.accept(requeued, owner="")).lease is None
            assert await operator.signal(S1, CancelTurn(turn.id)) is True
        assert list(await server.orphans(10)) == [S2]
        letters = (await server.inbox(lease, "")).letters
        assert [letter.content for letter in letters] == [CancelTurn(turn.id)]
        assert await commit(server, lease, turn)


async def test_an_operator_sees_a_new_server(tmp_path: Path) -> None:
    """What a server's restart made void is void for who had the file open all the time."""
    path = tmp_path / "store.db"
    async with opened(path) as server:
        await accept(server, make_turn())
    async with opened(path, exclusive=False) as operator, opened(path) as server:
        assert await server.claim(S1, "b") is not None
        assert await operator.claim(S1, "c") is None
        assert list(await operator.orphans(10)) == []


async def test_an_operator_makes_no_file(tmp_path: Path) -> None:
    """A command that is given a wrong path says so, and leaves nothing there."""
    path = tmp_path / "none.db"
    with pytest.raises(ConfigError, match="no such file"):
        await SqliteStore(path, exclusive=False).open()
    assert not path.exists()


async def test_its_files_are_for_the_owner_only(tmp_path: Path) -> None:
    """Directory 0700; the file and all that SQLite puts beside it 0600."""
    path = tmp_path / "state" / "actorpool" / "store.db"
    async with opened(path) as store:
        await answer(store)
        assert path.parent.stat().st_mode & 0o777 == 0o700
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        assert set(modes.values()) == {0o600}
        assert {"store.db", "store.db-wal", "store.db.lock"} <= set(modes)


# --- it fails whole


async def _fill(store: SqliteStore) -> int:
    """Make sessions until the store is full; how many there are."""
    kept = 0
    while kept < 1_000:
        try:
            await answer(store, "x" * 10_000, key=SessionKey("acme", f"n{kept}"))
        except StoreUnavailable:
            break
        kept += 1
    return kept


async def test_a_full_disk_refuses_writes_until_there_is_room(tmp_path: Path) -> None:
    """Nothing of a refused write is kept, reads go on, and so do writes once something is gone."""
    clock = Clock()
    async with opened(tmp_path / "store.db", max_bytes=400_000, clock=clock) as store:
        assert 10 < await _fill(store) < 40
        refused = make_turn("y" * 100_000)
        with pytest.raises(StoreUnavailable, match=r"full.*make room") as caught:
            await store.accept(refused, owner="a")
        assert caught.value.retry_after_s == 1.0
        assert await store.turn(refused.id) is None
        assert await store.session(S1) is None
        assert len(await transcript_of(store, SessionKey("acme", "n0"))) == 2
        for number in range(10):
            assert await store.delete_session(SessionKey("acme", f"n{number}"))
        for _ in range(5):
            clock.now += 2.0
            store.tick()
            await store.ping()
        assert (await store.accept(refused, owner="a")).new
        await answer(store, key=S2)


async def test_a_lock_that_lasts_refuses_writes_until_it_ends(tmp_path: Path) -> None:
    """Another program's transaction holds up writes for some seconds, then they are refused."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            turn = make_turn()
            with pytest.raises(StoreUnavailable, match="another program keeps it locked"):
                await store.accept(turn, owner="a")
            assert await store.turn(turn.id) is None
            other.execute("ROLLBACK")
        other.close()
        assert (await store.accept(turn, owner="a")).new


async def test_one_bad_job_fails_alone(tmp_path: Path) -> None:
    """Of many that are written together only the wrong one is refused."""
    async with opened(tmp_path / "store.db") as store:
        ended = await answer(store)
        results = await asyncio.gather(
            store.accept(make_turn("one", key=S2), owner="a"),
            store.create_session(S1, SessionInfo(id="s1")),
            # its id is taken by a turn that has ended: found out by the table
            store.accept(ended, owner="a"),
            store.accept(make_turn("two", key=S2), owner="a"),
            return_exceptions=True,
        )
        one, conflict, again, two = results
        assert isinstance(conflict, Conflict)
        for accepted in (one, again, two):
            assert not isinstance(accepted, BaseException)
            assert accepted.new
        assert not isinstance(again, BaseException)
        assert (again.turn, again.lease) == (ended, None)
        assert len((await store.turns(S2, None, 10)).items) == 2
        assert len((await store.turns(S1, None, 10)).items) == 1
        # what was tried with its session, and not written, is not remembered either
        following, _ = await accept(store, make_turn("three"))
        assert (following.number, following.others) == (2, False)


async def test_more_sessions_than_are_kept_at_hand_go_on(tmp_path: Path) -> None:
    """A session that the writer keeps in memory no longer is read again from the file."""
    keys = [SessionKey("acme", f"n{number}") for number in range(KNOWN_MAX + 2)]
    async with opened(tmp_path / "store.db") as store:
        for _ in range(2):
            await asyncio.gather(*(answer(store, key=key) for key in keys))
        infos = await asyncio.gather(*(store.session(key) for key in keys))
        assert [info and info.turns for info in infos] == [2] * len(keys)


async def test_metadata_that_is_no_plain_data_is_refused(tmp_path: Path) -> None:
    """What cannot be stored is the caller's mistake, and nothing is kept."""
    async with opened(tmp_path / "store.db") as store:
        turn = make_turn()
        turn.request = TurnRequest(input="x", metadata={"a": object()})
        with pytest.raises(InvalidRequest, match="metadata"):
            await store.accept(turn, owner="a")
        with pytest.raises(InvalidRequest, match="metadata"):
            await store.create_session(S1, SessionInfo(id="s1", metadata={"a": object()}))
        assert await store.session(S1) is None


async def test_a_state_that_grows_is_joined_now_and_then(tmp_path: Path) -> None:
    """However often something is appended, the whole is read back, from few parts."""
    path = tmp_path / "store.db"
    async with opened(path) as store:
        for number in range(150):
            await answer(store, change=StateChange("f/1", b"%d," % number, append=True))
        _, lease = await accept(store, make_turn())
        found = await store.load(lease, "helper", "")
        assert found.data == b"".join(b"%d," % number for number in range(150))
    with sqlite3.connect(path) as db:
        (parts,) = db.execute("SELECT count(*) FROM states").fetchone()
    db.close()
    assert parts <= 64


async def test_its_name_shows_where_it_is(tmp_path: Path) -> None:
    """Its representation has the path and who has joined."""
    async with opened(tmp_path / "store.db") as store:
        await store.join("a", lambda nudge: None)
        assert repr(store) == f"<SqliteStore {tmp_path}/store.db <Owners [a]>>"
