"""What the SQLite store asks its tables is answered by an index, however large they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pool.events import START
from pool.store.base import SessionKey, StateChange
from pool.store.cabinet import Document
from pool.store.counters import Change
from pool.store.sharing import CancelTurn
from pool.store.sqlite import SqliteStore
from pool.turn import TurnError, Webhook
from tests.contract.opened import Clock
from tests.contract.steps import S1, S2, accept, answer, commit, finish, make_turn


@contextmanager
def _heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Every statement that any connection runs meanwhile, with its values."""
    heard: set[str] = set()

    class Heard(sqlite3.Connection):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            self.set_trace_callback(heard.add)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, factory=Heard, **options)
    )
    yield heard
    monkeypatch.undo()


async def _everything(store: SqliteStore, clock: Clock) -> None:
    """Every call of the contract, with something to find."""
    await store.join("a", lambda nudge: None)
    turn = make_turn(webhook=Webhook("https://example.org"))
    accepted = await store.accept(turn, owner="a", key="k", with_state=True)
    assert accepted.lease is not None
    await store.append(accepted.lease, [], turn, StateChange("f/1", b"x", append=True))
    await store.append(accepted.lease, [], turn, StateChange("f/1", b"x", append=True))
    await store.load(accepted.lease, "helper", turn.id)
    await store.accept(make_turn(), owner="b")
    await store.signal(S1, CancelTurn(turn.id))
    await store.inbox(accepted.lease, "")
    await commit(store, accepted.lease, turn, change=StateChange("f/1", b"x"))
    await store.commit(accepted.lease, turn, [])
    await store.accept(turn, owner="a", key="k")
    await store.find_key(S1, "k")
    await store.release(accepted.lease)
    assert await store.orphans(10) == [S1]
    claimed = await store.claim(S1, "a")
    assert claimed is not None
    dead = finish(claimed.turns[0][1], "failed")
    dead.error = TurnError("dead_letter", "it crashed too often")
    await store.commit(claimed.lease, dead, [])
    for tenant in (None, "acme"):
        assert len(await store.dead_letters(tenant, 10)) == 1
    assert len(await store.take_deliveries(10, 5.0)) == 1
    await store.put_off(turn.id, 1.0)
    await store.settle(turn.id)
    await store.turn(turn.id)
    await store.turn_start(turn.id)
    await store.turns(S1, None, 10)
    await store.events(S1, START, 10)
    await store.messages(S1, None, 10)
    await store.session(S1)
    await store.sessions("acme", None, 10)
    await store.all_sessions(None, 10)
    await store.fork_session(S1, S2, turn.id)
    await store.fork_session(S1, SessionKey("acme", "s3"), dead.id)
    carried = await store.carry_out(S1)
    assert carried is not None
    await store.delete_session(S1)
    assert await store.carry_in(carried)
    await store.forget_dead_letter(dead.id)
    await accept(store, make_turn(key=S2), "a")
    await store.leave("a")
    await store.orphans(10)
    await answer(store, key=SessionKey("acme", "s4"))
    await store.put("key", [Document("a", b"1")])
    await store.get("key", "a")
    await store.documents("key", None, 10)
    await store.changes("key")
    await store.remove("key", "a")
    await store.count([Change("used", 1, clock.now + 1.0)])
    await store.counts(["used"])
    for _ in range(3):
        clock.now += 1e6
        store.tick()
        await store.ping()


@pytest.mark.real_time
async def test_every_statement_has_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statement reads a whole table, but for listings that end at their limit."""
    path, clock = tmp_path / "store.db", Clock()
    with _heard(monkeypatch) as heard:
        store = SqliteStore(path, clock=clock, retention=None)
        await store.open()
        heard.clear()
        await _everything(store, clock)
        await store.close()
    scans = set()
    with closing(sqlite3.connect(path)) as db:
        for statement in heard:
            if statement.split()[0] in ("SELECT", "UPDATE", "DELETE"):
                for *_, plan in db.execute(f"EXPLAIN QUERY PLAN {statement}"):
                    if plan.startswith("SCAN") and plan != "SCAN CONSTANT ROW":
                        scans.add((plan, statement))
    # in the order of their keys, and no further than is asked for
    assert {plan for plan, _ in scans} <= {
        "SCAN gone",
        "SCAN dead_letters",
        "SCAN sessions USING INTEGER PRIMARY KEY",
        "SCAN sqlite_sequence",
    }, scans
