"""Answers in a Redis that processes share, by the library `aiocache`.

They may be lost without harm, so they need not be where turns are kept. A Redis that does not
answer is done without: for a moment nobody asks it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import structlog
from aiocache import RedisCache  # type: ignore[import-untyped]
from aiocache.serializers import NullSerializer  # type: ignore[import-untyped]
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pool.store.redis_url import Login, RedisUrl, parse_redis_url

PREFIX: Final = "ap-answer"
# The library's client has a connection for each command on its way: so many at most.
CONNECTIONS_MAX: Final = 16
# How long nobody asks a Redis that did not answer, in seconds.
PAUSE_S: Final = 1.0

T = TypeVar("T")

_log = structlog.get_logger("pool.guard.answers")


class RedisAnswers:
    """An `AnswerStore` for all processes that name the same Redis (see `pool.store.redis_url`).
    `clock`: monotonic seconds.
    """

    def __init__(
        self, url: str, *, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        parsed = parse_redis_url(url)
        self._shown = parsed.shown
        self._timeout_s = timeout_s
        self._clock = clock
        self._client, self._sentinels = _client(parsed, url, timeout_s)
        # what the library makes is a client of one server: it gets ours before it has connected
        self._cache = RedisCache(serializer=NullSerializer(encoding=None), timeout=None)
        self._cache.client = self._client
        self._places = asyncio.Semaphore(CONNECTIONS_MAX)
        self._opening = asyncio.Lock()
        self._open = self._failing = False
        self._again_at = 0.0

    def __repr__(self) -> str:
        return f"<RedisAnswers {self._shown}{' failing' if self._failing else ''}>"

    async def get(self, key: str) -> bytes | None:
        """The answer; None if there is none, or Redis does not say."""
        found = await self._try(lambda: self._cache.get(f"{PREFIX}:{key}"))
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, answer: bytes, ttl_s: float) -> None:
        """Keep it so long, if Redis will."""
        # whole seconds would be another command, and no jitter
        ttl_s = max(0.001, float(ttl_s))
        await self._try(lambda: self._cache.set(f"{PREFIX}:{key}", answer, ttl=ttl_s))

    async def close(self) -> None:
        """Let go of the connections."""
        for client in (self._client, *self._sentinels):
            await client.aclose()

    async def _try(self, call: Callable[[], Awaitable[T]]) -> T | None:
        if self._clock() < self._again_at:
            return None
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                if not self._open:
                    await self._begin()
                answer = await call()
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(type(error).__name__)
            return None
        if self._failing:
            self._failing = False
            _log.info("the cache of answers is there again", url=self._shown)
        return answer

    async def _begin(self) -> None:
        # one alone: a cluster's client that many use while it looks for its nodes breaks
        async with self._opening:
            if not self._open:
                await self._cache.exists(f"{PREFIX}:begin")
                self._open = True

    def _failed(self, error: str) -> None:
        self._again_at = self._clock() + PAUSE_S
        if not self._failing:
            self._failing = True
            _log.warning(
                "the cache of answers does not answer: every question is asked anew meanwhile",
                url=self._shown,
                error=error,
                remedy="check that Redis runs, and cache.url",
            )


def _client(url: RedisUrl, text: str, timeout_s: float) -> tuple[Any, list[Any]]:
    """What speaks to it, and the clients that look for it."""
    common: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # who waits for an answer does not wait for a second try
        "retry": Retry(NoBackoff(), 0),
        **_tls(url, text),
    }
    ours = {**common, **_who(url.login)}
    if url.kind == "cluster":
        nodes = [ClusterNode(each.host, each.port) for each in url.addresses]
        return RedisCluster(startup_nodes=nodes, **ours), []
    ours["db"] = url.login.db
    if url.kind == "server":
        (address,) = url.addresses
        return Redis(host=address.host, port=address.port, **ours), []
    make: Any = Sentinel
    sentinel = make(
        [tuple(each) for each in url.addresses],
        sentinel_kwargs={**common, **_who(url.sentinel_login)},
    )
    return sentinel.master_for(url.master, **ours), list(sentinel.sentinels)


def _who(login: Login) -> dict[str, Any]:
    return {"username": login.user or None, "password": login.password or None}


def _tls(url: RedisUrl, text: str) -> dict[str, Any]:
    if url.login.tls is None:
        return {}
    ca_file = dict(parse_qsl(text.partition("?")[2])).get("ca_file")
    return {"ssl": True} if ca_file is None else {"ssl": True, "ssl_ca_certs": ca_file}
