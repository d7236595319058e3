"""Answers in Redis: shared by processes, bounded in time, and done without when it is gone."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from pool import AgentPool, AgentSpec, Principal
from pool.errors import ConfigError
from pool.guard.answers_config import AnswerCache
from pool.guard.answers_redis import PREFIX, RedisAnswers
from pool.guard.answers_stores import CacheConfig, answer_store
from tests.support.agents import Held
from tests.support.redis_servers import cluster, redis_server, sentinels
from tests.support.spending import Clock

ANN = Principal("acme", "ann")
CACHE = AnswerCache(ttl_s=60.0)


@asynccontextmanager
async def opened(url: str, timeout_s: float = 2.0) -> AsyncIterator[RedisAnswers]:
    """Answers in a Redis, let go of at the end."""
    answers = RedisAnswers(url, timeout_s=timeout_s)
    try:
        yield answers
    finally:
        await answers.close()


async def _kept(url: str) -> None:
    async with opened(url) as one, opened(url) as other:
        await one.put("k", b"\xffanswer", 60.0)
        many = await asyncio.gather(*(other.get("k") for _ in range(40)), other.get("none"))
        assert many == [b"\xffanswer"] * 40 + [None]


@pytest.mark.real_time
async def test_processes_share_answers() -> None:
    """Bytes come back as they were, with their time in milliseconds."""
    with redis_server() as server:
        await _kept(server.url)
        async with opened(server.url) as answers:
            await answers.put("short", b"x", 0.9)
        assert 0 < server.execute("PTTL", f"{PREFIX}:short") <= 900
        assert 59_000 < server.execute("PTTL", f"{PREFIX}:k") <= 60_000


@pytest.mark.real_time
async def test_a_cluster_keeps_answers() -> None:
    """By the same library, with a client of a cluster."""
    with cluster() as servers:
        await _kept(servers.url)


@pytest.mark.real_time
async def test_the_master_that_sentinels_name_keeps_answers() -> None:
    """It is looked for when it is needed."""
    with sentinels() as servers:
        await _kept(servers.url)


@pytest.mark.real_time
async def test_a_pool_answers_with_what_another_has_kept() -> None:
    """No text of a question, no name of a tenant is in a key."""
    with redis_server() as server:
        agent = Held()
        await agent.let_all()
        marks = []
        for _ in range(2):
            async with opened(server.url) as answers, _pool(agent, answers) as pool:
                marks.append((await pool.ask("secret?", principal=ANN)).marks)
        assert marks == [(), ("cached",)]
        assert agent.started == ["secret?"]
        (key,) = [key for key in server.execute("KEYS", "*") if not key.endswith(":begin")]
        assert key.startswith(f"{PREFIX}:")
        assert "acme" not in key and "secret" not in key


@pytest.mark.real_time
async def test_fifty_equal_questions_cost_one_answer_and_one_look() -> None:
    """Who waits for an equal question does not ask Redis either."""
    with redis_server() as server:
        agent = Held()
        async with opened(server.url) as answers, _pool(agent, answers) as pool:
            asking = [asyncio.create_task(pool.ask("x", principal=ANN)) for _ in range(50)]
            await agent.until_started(1)
            await agent.let_all()
            turns = await asyncio.gather(*asking)
        assert len(agent.started) == 1
        assert [turn.marks for turn in turns].count(("cached",)) == 49


@pytest.mark.real_time
async def test_a_redis_that_is_gone_is_done_without() -> None:
    """The turn is answered as if nothing were kept; the log says so once, without the password."""
    with redis_server() as server:
        url = server.url.replace("://", "://u:hunter2@")
        agent = Held()
        await agent.let_all()
        with capture_logs() as logs:
            async with opened(url) as answers, _pool(agent, answers) as pool:
                turns = [await pool.ask("x", principal=ANN) for _ in range(3)]
                assert "hunter2" not in repr(answers) and "failing" in repr(answers)
        assert [turn.marks for turn in turns] == [()] * 3
        told = [log for log in logs if log["log_level"] == "warning"]
        assert len(told) == 1 and "hunter2" not in str(told)


@pytest.mark.real_time
async def test_a_silent_redis_delays_one_question_at_most() -> None:
    """For a moment nobody asks it again; then it is asked, and the log says that it is back."""
    clock = Clock(0.0)
    with redis_server() as server, capture_logs() as logs:
        answers = RedisAnswers(server.url, timeout_s=0.2, clock=clock)
        await answers.put("k", b"x", 60.0)
        server.stop()
        began = time.monotonic()
        assert [await answers.get("k") for _ in range(50)] == [None] * 50
        assert time.monotonic() - began < 2.0
        server.cont()
        assert await answers.get("k") is None
        clock.now = 1.0
        assert await answers.get("k") == b"x"
        await answers.close()
    assert [log["log_level"] for log in logs] == ["warning", "info"]


@pytest.mark.real_time
async def test_a_redis_without_room_keeps_nothing() -> None:
    """What it refuses is not kept; the turn does not hear of it."""
    with redis_server(extra=("--maxmemory", "1", "--maxmemory-policy", "noeviction")) as server:
        async with opened(server.url) as answers:
            await answers.put("k", b"x", 60.0)
            assert "failing" in repr(answers)


@pytest.mark.real_time
async def test_a_cancelled_question_leaves_the_connection_whole() -> None:
    """What was on its way for one is never the answer of another."""
    with redis_server() as server:
        async with opened(server.url) as answers:
            for n in range(20):
                await answers.put(f"k{n}", str(n).encode(), 60.0)
            asking = [asyncio.create_task(answers.get("k0")) for _ in range(20)]
            await asyncio.sleep(0)
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
            found = await asyncio.gather(*(answers.get(f"k{n}") for n in range(20)))
            assert found == [str(n).encode() for n in range(20)]


def test_memory_is_no_store_of_all_processes() -> None:
    """Each agent has its own, without any package."""
    assert answer_store(CacheConfig()) is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("url", "sqlite:x.db"),
        ("url", "memcached://here"),
        ("url", ""),
        ("timeout_s", 0.0),
        ("timeout_s", float("inf")),
    ],
)
def test_mistakes_in_the_configuration_are_named(option: str, value: object) -> None:
    """With the option and what to write instead."""
    with pytest.raises(ConfigError) as raised:
        CacheConfig(**{option: value})  # type: ignore[arg-type]
    assert raised.value.option == option


def test_a_wrong_url_is_told_without_its_password() -> None:
    """When the store is made; the scheme alone was right."""
    with pytest.raises(ConfigError) as raised:
        answer_store(CacheConfig(url="redis://u:hunter2@host:none"))
    assert raised.value.option == "cache.url"
    assert "hunter2" not in str(raised.value)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "aiocache", None)
    monkeypatch.delitem(sys.modules, "pool.guard.answers_redis", raising=False)
    with pytest.raises(ConfigError, match=r"actorpool\[cache,redis\]"):
        answer_store(CacheConfig(url="redis://localhost"))


@asynccontextmanager
async def _pool(agent: Held, answers: RedisAnswers) -> AsyncIterator[AgentPool]:
    pool = AgentPool(AgentSpec(agent=agent, cache=CACHE, max=8), answers=answers)
    async with pool:
        yield pool
