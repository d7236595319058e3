"""The layout of what a Redis has: named once, and never mixed with another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest

from pool.errors import ConfigError
from pool.store.base import SessionKey
from pool.store.redis import RedisStore
from pool.store.redis_keys import COMMON
from tests.contract.nudges import joined
from tests.contract.steps import answer
from tests.support.redis_process import RedisServer
from tests.support.redis_servers import cluster, redis_server, sentinels
from tests.support.redis_stores import opened
from tests.support.resp_server import OK, bulk, resp_server

pytestmark = pytest.mark.real_time(60)

KEY = "ap:{ap:replicas}:layout"

# What a store is told, and the server that has the key.
Where = tuple[str, RedisServer]


@contextmanager
def _one() -> Iterator[Where]:
    with redis_server() as server:
        yield server.url, server


@contextmanager
def _watched() -> Iterator[Where]:
    with sentinels() as found:
        yield found.url, found.master


@contextmanager
def _clustered() -> Iterator[Where]:
    with cluster() as found:
        yield found.url, found.holder(KEY)


WAYS = pytest.mark.parametrize(
    "where", [_one, _watched, _clustered], ids=["one server", "sentinels", "cluster"]
)


async def _begin(url: str, session: str, *, prefix: str = "ap") -> None:
    """Open a store, and write to it at once."""
    store = RedisStore(url, prefix=prefix)
    try:
        await store.open()
        await answer(store, key=SessionKey("acme", session))
    finally:
        await store.close()


async def _refusal(url: str) -> str:
    with pytest.raises(ConfigError) as caught:
        await _begin(url, "s")
    return str(caught.value)


@WAYS
async def test_replicas_that_start_at_the_same_moment_agree(
    where: Callable[[], AbstractContextManager[Where]],
) -> None:
    """One of them names the layout; all open, though some already write; and so do later ones."""
    with where() as (url, server):
        await asyncio.gather(*[_begin(url, f"s{number}") for number in range(8)])
        assert server.execute("GET", KEY) == "1"
        await _begin(url, "later")


@WAYS
@pytest.mark.parametrize("layout", ["0", "2", "\x1b[2Jlater"])
async def test_another_layout_is_refused(
    where: Callable[[], AbstractContextManager[Where]], layout: str
) -> None:
    """Older or newer: it says which it is and what to do, and everything stays as it is."""
    with where() as (url, server):
        server.execute("SET", KEY, layout)
        message = await _refusal(url)
        assert f"its layout is {layout!r}, this program's is '1'" in message
        assert "another database" in message and "actorpool migrate" in message
        assert "\x1b" not in message
        assert server.execute("KEYS", "*") == [KEY]
        assert server.execute("GET", KEY) == layout


@WAYS
async def test_sessions_without_a_layout_are_refused(
    where: Callable[[], AbstractContextManager[Where]],
) -> None:
    """Of a program that named none; nor is one named for them. A single session is found."""
    with where() as (url, server):
        await _begin(url, "s")
        server.execute("DEL", KEY)
        assert "names no layout" in await _refusal(url)
        assert server.execute("EXISTS", KEY) == 0


async def test_a_layout_named_in_between_is_heeded() -> None:
    """Whoever finds sessions and no layout looks again: another store was opened beside it."""
    named = iter([b"$-1\r\n", bulk(b"1")])
    answers = {
        b"INFO": bulk(b"redis_version:7.0.0\r\naof_enabled:1\r\n"),
        b"EXISTS": b":1\r\n",
        b"EVAL": b"*0\r\n",
        b"EVALSHA": b"*0\r\n",
    }

    def reply(words: Sequence[bytes]) -> bytes:
        return next(named) if words[0] == b"GET" else answers.get(words[0]) or OK

    async with resp_server(reply) as server:
        store = RedisStore(server.url)
        await store.open()
        await store.close()
        told = [words[0] for words in server.commands]
        assert told.count(b"GET") == 2 and told.count(b"EXISTS") == 64


async def test_each_prefix_has_its_own_layout() -> None:
    """What another program keeps beside it in the same Redis is none of its business."""
    with redis_server() as server:
        server.execute("SET", KEY, "2")
        await _begin(server.url, "s", prefix="mine")
        assert server.execute("GET", "mine:{mine:replicas}:layout") == "1"


async def test_a_redis_that_came_back_empty_is_named_again() -> None:
    """By the next beat of whoever takes part: a server that starts later finds its layout."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            server.execute("FLUSHALL")
            assert await asyncio.to_thread(store.beat)
            await answer(store)
            await _begin(server.url, "s")


async def test_a_name_that_is_there_stays() -> None:
    """Whoever names a layout leaves another's name, and hears it; so does a beat."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            server.execute("SET", KEY, "2")
            assert await store._scripts.run(COMMON, "layout", [KEY]) == b"2"
            assert await asyncio.to_thread(store.beat)
            assert server.execute("GET", KEY) == "2"
