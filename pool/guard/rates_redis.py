"""Counts of rates in a Redis of their own, by the library `limits`.

They may be lost without harm, so they need not be where turns are kept: a Redis without a disk
serves. One round trip for each window, all of them at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qsl

from limits.aio.storage import RedisClusterStorage, RedisSentinelStorage, RedisStorage
from limits.errors import StorageError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pool.errors import StoreUnavailable
from pool.guard.rate_windows import Asking, Taken, Window, full_among
from pool.store.redis_url import RedisUrl, parse_redis_url

PREFIX: Final = "ap-rate"
# A check that takes longer is worth less than none.
TIMEOUT_S: Final = 0.5
# The library's client has a connection for each command on its way: so many at most.
CONNECTIONS_MAX: Final = 16


class RedisWindows:
    """Counts windows in the Redis that a URL names (see `pool.store.redis_url`)."""

    def __init__(
        self, url: str, *, timeout_s: float = TIMEOUT_S, wall: Callable[[], float] = time.time
    ) -> None:
        parsed = parse_redis_url(url)
        self._shown = parsed.shown
        self._timeout_s = timeout_s
        self._wall = wall
        self._places = asyncio.Semaphore(CONNECTIONS_MAX)
        self._opening = asyncio.Lock()
        self._open = False
        self._storage = _KINDS[parsed.kind](_uri(parsed), **_options(parsed, url, timeout_s))

    def __repr__(self) -> str:
        return f"<RedisWindows {self._shown}>"

    async def take(self, asking: Asking) -> Taken:
        """See `Windows.take`. The library counts first; what had no room is taken back."""
        windows = asking.windows
        asked = [1 if window.limit.what == "requests" else 0 for window in windows]
        counts = await self.add(list(zip(windows, asked, strict=True)))
        # as they were before this request
        before = [count - one for count, one in zip(counts, asked, strict=True)]
        over = full_among(windows, before)
        if over:
            back = [(window, -one) for window, one in zip(windows, asked, strict=True) if one]
            await self.add(back)
        return Taken(before if over else counts, over, exact=False)

    async def add(self, windows: Sequence[tuple[Window, int]]) -> Sequence[int]:
        """See `Windows.add`."""
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                if not self._open:
                    await self._begin()
                return await asyncio.gather(
                    *(self._add(window, amount) for window, amount in windows)
                )
        except (StorageError, TimeoutError):
            raise StoreUnavailable(
                "the counts of rates cannot be reached", retry_after_s=1.0
            ) from None

    async def close(self) -> None:
        """Let go of the connections."""
        bridge: Any = self._storage.bridge
        clients = [bridge.storage]
        if isinstance(self._storage, RedisSentinelStorage):
            clients += [bridge.storage_replica, *bridge.sentinel.sentinels]
        for client in clients:
            await client.aclose()

    async def _begin(self) -> None:
        # one alone: a cluster's client that many use while it looks for its nodes breaks
        async with self._opening:
            if not self._open:
                await self._storage.get("begin")
                self._open = True

    async def _add(self, window: Window, amount: int) -> int:
        # kept for one window more: the clocks of processes differ
        kept_s = max(0.0, window.ends - self._wall()) + window.limit.window_s
        async with self._places:
            return await self._storage.incr(window.counter, ceil(kept_s), amount)


def _uri(url: RedisUrl) -> str:
    """What the library calls it; who we are to it is said in options."""
    hosts = ",".join(map(str, url.addresses))
    if url.kind == "cluster":
        return f"async+redis+cluster://{hosts}"
    if url.kind == "sentinel":
        return f"async+redis+sentinel://{hosts}/{url.master}"
    return f"async+{'rediss' if url.login.tls else 'redis'}://{hosts}/{url.login.db}"


def _options(url: RedisUrl, text: str, timeout_s: float) -> dict[str, Any]:
    login, sentinel = url.login, url.sentinel_login
    patience = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    options: dict[str, Any] = {
        "implementation": "redispy",
        "key_prefix": PREFIX,
        "wrap_exceptions": True,
        # a count that is tried again is counted twice
        "retry": Retry(NoBackoff(), 0),
        **patience,
    }
    if login.password:
        options |= {"username": login.user or None, "password": login.password}
    tls: dict[str, Any] = {} if login.tls is None else {"ssl": True, **_authorities(text)}
    if url.kind == "server":
        tls.pop("ssl", None)
    if url.kind == "sentinel":
        # who we are to the master is nothing that the sentinels are to hear
        who = {"username": sentinel.user or None, "password": sentinel.password or None}
        options |= {"db": login.db, "use_replicas": False}
        options["sentinel_kwargs"] = {**patience, **who, **tls}
    return options | tls


def _authorities(text: str) -> dict[str, Any]:
    ca_file = dict(parse_qsl(text.partition("?")[2])).get("ca_file")
    return {} if ca_file is None else {"ssl_ca_certs": ca_file}


_KINDS: Final[Mapping[str, type[RedisStorage]]] = {
    "server": RedisStorage,
    "sentinel": RedisSentinelStorage,
    "cluster": RedisClusterStorage,
}
