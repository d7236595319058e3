"""Migrations between real stores: SQLite files and Redis servers, both ways."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from pool.errors import ConfigError
from pool.store.base import SessionKey, StateChange, Store
from pool.store.limits import Retention
from pool.store.urls import store_of
from pool.turn import SessionInfo
from protocol.command.migrate import migrate
from protocol.settings import AuditSettings, StoreSettings
from tests.contract.steps import OTHER, S1, S2, accept, answer, log_of, make_turn, transcript_of
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time

Captured = pytest.CaptureFixture[str]

LEASE_S = 1.0
VAGUE = {"created_at": 0.0, "updated_at": 0.0, "cursor": ""}
SESSIONS = [SessionKey("acme", f"many{number}") for number in range(40)]


@contextmanager
def places(kinds: str, directory: Path) -> Iterator[list[str]]:
    """The URLs of so many empty stores, each a file or a Redis database."""
    with redis_server() as redis:
        yield [
            f"sqlite://{directory}/{number}.db"
            if kind == "sqlite"
            else redis.url.removesuffix("0") + str(number)
            for number, kind in enumerate(kinds.split())
        ]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """The store at a URL, until the block is left."""
    store = store_of(url, retention=Retention(), lease_s=LEASE_S)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def fill(store: Store) -> None:
    """Sessions of two tenants, with all that a session can have."""
    await answer(store, "one", change=StateChange("f", b"sta"))
    await answer(store, "two", change=StateChange("f", b"te", append=True))
    await answer(store, "three", state="failed", output="")
    await answer(store, "four", agent="other")
    await store.accept(make_turn("waits", key=S2), owner="gone", key="k")
    await store.leave("gone")
    await store.create_session(OTHER, SessionInfo(id="s1", metadata={"n": 1}, ttl_s=600.0))
    for key in SESSIONS:
        await answer(store, key=key)


async def same(old: Store, new: Store) -> None:
    """Whether both have the same to tell."""
    for key in (S1, S2, OTHER, *SESSIONS):
        had, has = await old.session(key), await new.session(key)
        assert had is not None
        assert has is not None
        # Redis counts microseconds, and where nothing was said a cursor says nothing
        assert has.updated_at == pytest.approx(had.updated_at, abs=1e-5)
        assert replace(has, **VAGUE) == replace(had, **VAGUE)
        assert await transcript_of(new, key) == await transcript_of(old, key)
        assert await log_of(new, key) == await log_of(old, key)
        turns = (await old.turns(key, None, 100)).items
        assert (await new.turns(key, None, 100)).items == turns
        for turn in turns:
            assert await new.turn(turn.id) == turn
            begun, begins = await old.turn_start(turn.id), await new.turn_start(turn.id)
            assert begun is not None
            assert begins is not None
            assert begins == begun or begins.seq == begun.seq == 0


async def moved(source: str, target: str, *, audit: str = "off") -> int:
    """The exit code of a migration."""
    settings = [StoreSettings(url=url, lease_s=LEASE_S) for url in (source, target)]
    return await migrate(settings[0], settings[1], {}, audit=AuditSettings(to=audit))


@pytest.mark.parametrize("kinds", ["sqlite redis", "redis sqlite", "sqlite redis redis sqlite"])
async def test_nothing_is_lost(kinds: str, tmp_path: Path, capsys: Captured) -> None:
    """Whatever way sessions go, they arrive whole, and go on where they arrive."""
    with places(kinds, tmp_path) as urls:
        async with opened(urls[0]) as first:
            await fill(first)
        for source, target in pairwise(urls):
            assert await moved(source, target) == 0
        assert "carried 43 sessions with 45 turns" in capsys.readouterr().out
        async with opened(urls[0]) as first, opened(urls[-1]) as last:
            await same(first, last)
            # who waited is found, with its idempotency key, and its session goes on
            assert await last.orphans(10) == [S2]
            assert await last.find_key(S2, "k") == await first.find_key(S2, "k")
            claim = await last.claim(S2, "server")
            assert claim is not None
            carried = await first.carry_out(S2)
            assert carried is not None
            assert claim.lease.epoch > carried.end.epoch
            turn = make_turn("and then?")
            _, lease = await accept(last, turn)
            state = await last.load(lease, "helper", turn.id)
            assert (state.format, state.data) == ("f", b"state")
            assert [message.content for message in state.unseen] == ["four", "hi"]


async def test_it_can_be_repeated(tmp_path: Path, capsys: Captured) -> None:
    """What is there is left alone; what went on in the source is told."""
    with places("redis sqlite", tmp_path) as (source, target):
        async with opened(source) as store:
            await answer(store)
        assert await moved(source, target) == 0
        assert await moved(source, target) == 0
        assert "left 1 that were there before" in capsys.readouterr().out
        async with opened(source) as store:
            await answer(store, "more")
        assert await moved(source, target) == 1
        assert "1 sessions are not the same in both" in capsys.readouterr().out


async def test_a_migration_is_noted(tmp_path: Path) -> None:
    """Where to, without a password, and how many sessions."""
    with places("redis sqlite", tmp_path) as (source, target):
        async with opened(source) as store:
            await answer(store)
        assert await moved(source, target, audit=str(tmp_path / "audit")) == 0
    text = (tmp_path / "audit.commands").read_text()
    assert '"action":"admin.migrate"' in text
    assert '"reason":"1 sessions"' in text


@pytest.mark.parametrize("option", ["--from", "--to"])
async def test_servers_have_to_be_stopped(option: str, tmp_path: Path) -> None:
    """A Redis on which a server is alive is neither copied from nor into."""
    kinds = "redis sqlite" if option == "--from" else "sqlite redis"
    with places(kinds, tmp_path) as urls:
        async with opened(urls[0]) as store:
            await answer(store)
        async with opened(urls[0 if option == "--from" else 1]) as store:
            await store.join("server-1", lambda nudge: None)
            with pytest.raises(
                ConfigError, match=r"1 servers use it \(server-1\): stop them"
            ) as no:
                await moved(*urls)
            assert no.value.option == option
            await store.leave("server-1")
        assert await moved(*urls) == 0
