"""Documents and counters that several replicas share on one Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import time

import pytest

from pool.store.cabinet import Document
from pool.store.counters import Change
from pool.store.redis import RedisStore
from tests.contract.nudges import joined
from tests.support.redis_servers import cluster, redis_server
from tests.support.redis_stores import eventually, opened

pytestmark = pytest.mark.real_time


@contextmanager
def _url(kind: str) -> Iterator[str]:
    """Where a server, or a cluster, listens meanwhile."""
    if kind == "cluster":
        with cluster() as found:
            yield found.url
    else:
        with redis_server() as server:
            yield server.url


@pytest.mark.parametrize("kind", ["server", "cluster"])
async def test_two_owners_share_a_limit(kind: str) -> None:
    """Of 200 parallel counts from both just as many succeed as there is room for."""
    with _url(kind) as url:
        one, two = RedisStore(url), RedisStore(url)
        await asyncio.gather(one.open(), two.open())
        async with joined(one, "a"), joined(two, "b"):
            later = time() + 1_000
            change = [Change("user", 1, later), Change("tenant", 3, later, 100)]
            answers = await asyncio.gather(
                *(store.count(change) for _ in range(100) for store in (one, two))
            )
            made = [answer.values[1] for answer in answers if answer.over is None]
            assert sorted(made) == list(range(3, 100, 3))
            assert await one.counts(["user", "tenant"]) == [33, 99]
            assert await two.counts(["user", "tenant"]) == [33, 99]
        await asyncio.gather(one.close(), two.close())


async def test_replicas_see_what_others_put() -> None:
    """A document is everybody's at once, and everybody notices the change."""
    with redis_server() as server:
        async with opened(server) as one, opened(server) as two:
            before = await two.changes("key")
            await one.put("key", [Document("a", b"1")])
            assert await two.changes("key") > before
            assert await two.get("key", "a") == b"1"
            assert await two.remove("key", "a")
            assert await one.documents("key", None, 10) == ([], None)


async def test_redis_forgets_counters_by_itself_and_documents_never() -> None:
    """A counter is a key with its time; nothing else is left of it."""
    with redis_server() as server:
        async with opened(server) as store:
            await store.put("key", [Document("a", b"1")])
            kept = set(server.execute("KEYS", "*"))
            assert {server.execute("PTTL", key) for key in kept} == {-1}
            await store.count([Change("soon", 1, time() + 5), Change("later", 1, time() + 500)])
            counters = set(server.execute("KEYS", "*")) - kept
            left_ms = sorted(server.execute("PTTL", key) for key in counters)
            assert 0 < left_ms[0] <= 5_001
            assert 400_000 < left_ms[1] <= 500_001
            await store.count([Change("soon", 1, 0.0), Change("later", 1, 0.0)])
            assert set(server.execute("KEYS", "*")) == kept


async def test_a_forbidden_change_writes_nothing() -> None:
    """Who is over a limit costs Redis a look only: neither its disk nor its replicas."""
    with redis_server() as server:
        async with opened(server) as store:
            later = time() + 1_000
            await store.count([Change("a", 1, later)])
            before = server.execute("INFO", "persistence")
            changed = [line for line in before.splitlines() if "changes_since" in line]
            for _ in range(10):
                answer = await store.count([Change("b", 1, later), Change("a", 1, later, 1)])
                assert answer == ([0, 1], 1)
            after = server.execute("INFO", "persistence").splitlines()
            assert changed[0] in after


async def test_what_a_redis_lost_is_a_change() -> None:
    """A number of changes does not come again when it is counted anew: caches are not fooled."""
    with redis_server() as server:
        async with opened(server) as store:
            await store.put("key", [Document("a", b"1")])
            before = await store.changes("key")
            server.kill()
            server.start()
            assert await eventually(lambda: store.changes("key")) == 0
            await store.put("key", [Document("a", b"2")])
            assert await store.changes("key") > before
