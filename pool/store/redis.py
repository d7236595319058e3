"""The store for many replicas: everything in Redis, so that any process may go on with it.

Every step of the contract is one script that Redis runs whole (scripts/*.lua). A turn that is
accepted and run by the same replica takes two round trips: `accept` and `commit`.
"""

from __future__ import annotations

import asyncio
from math import isfinite
from random import Random
from typing import Final

from pool.errors import ConfigError
from pool.store.limits import Retention
from pool.store.redis_cabinet import RedisCabinet
from pool.store.redis_check import check_layout, check_server
from pool.store.redis_counters import RedisCounters
from pool.store.redis_heart import BEATS_PER_LEASE, Heart
from pool.store.redis_keys import KeySpace
from pool.store.redis_ledger import Ledger
from pool.store.redis_nudges import Nudges
from pool.store.redis_outbox import RedisOutbox
from pool.store.redis_scripts import Scripts
from pool.store.redis_servers import RedisServers
from pool.store.redis_sharing import RedisSharing
from pool.store.redis_transfer import RedisTransfer
from pool.store.redis_upkeep import Upkeep
from pool.store.redis_url import parse_redis_url
from pool.store.redis_wire import pack, unavailable

# How long Redis may owe an answer: it hangs, or is gone, if it takes longer.
TIMEOUT_S: Final = 0.5
_PING: Final = pack(("PING",))


class RedisStore(RedisSharing, RedisOutbox, RedisTransfer, RedisCabinet, RedisCounters):
    """A `Store` in Redis 6.2 or newer: one server, a master under sentinels, or a cluster.

    `url`: see pool/store/redis_url.py. `lease_s`: how long a lease outlives its owner. `prefix`:
    what all keys and channels begin with. `timeout_s`: how long Redis may owe an answer; after that
    calls fail with `StoreUnavailable`. `ConfigError` names an option that is wrong.
    """

    durable = True
    suspends = True

    def __init__(
        self,
        url: str,
        *,
        retention: Retention | None = None,
        lease_s: float = 10.0,
        prefix: str = "ap",
        timeout_s: float = TIMEOUT_S,
        random: Random | None = None,
    ) -> None:
        for option, value in (("lease_s", lease_s), ("timeout_s", timeout_s)):
            if not (isfinite(value) and value > 0):
                raise ConfigError(f"store.{option}", value, "write a number of seconds above 0")
        self.lease_s = lease_s
        self._url = parse_redis_url(url)
        self._timeout_s = timeout_s
        self._random = random or Random()
        keys = KeySpace(prefix)
        retention = retention or Retention()
        servers = RedisServers(self._url, keys.samples(), timeout_s=timeout_s, random=self._random)
        scripts = Scripts(servers, retention=retention, lease_s=lease_s, prefix=prefix)
        super().__init__(servers, scripts, keys, retention)
        self._nudges = Nudges(
            servers,
            keys,
            self._url.login,
            timeout_s=timeout_s,
            ping_s=lease_s / BEATS_PER_LEASE,
            random=self._random,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heart = Heart(
            scripts,
            keys,
            self._url.login,
            lease_s=lease_s,
            timeout_s=timeout_s,
            addresses=servers.addresses,
            doubted=self._doubted,
        )
        self._ledger = Ledger(servers, scripts, keys, self._heart)
        self._upkeep = Upkeep(scripts, keys, self._ledger, self._random)

    def __repr__(self) -> str:
        return f"<RedisStore {self._servers!r}>"

    async def open(self) -> None:
        """See `Store.open`. `ConfigError` if this Redis cannot be used: too old, it refuses us
        something, or what it has is of another layout. `StoreUnavailable` if it is not there.
        """
        self._loop = asyncio.get_running_loop()
        checked = set()
        for partition, key in enumerate(self._keys.probes()):
            link = await self._servers.reach(partition)
            if link.address not in checked:
                checked.add(link.address)
                await check_server(link, self._url, self._scripts, self._keys, key, self._timeout_s)
        await check_layout(self._servers, self._url, self._scripts, self._keys)

    async def close(self) -> None:
        """See `Store.close`. What an owner still holds that has not left is free after a lease."""
        await asyncio.to_thread(self._heart.stop)
        await self._nudges.close()
        await self._upkeep.close()
        await self._servers.close()

    async def ping(self) -> None:
        """See `Store.ping`. All servers must answer, within `timeout_s`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._servers.reach(0)
                await asyncio.gather(*[link.call(_PING) for link in self._servers.links()])
        except TimeoutError:
            raise unavailable("Redis did not answer a ping in time") from None

    def tick(self) -> None:
        """See `Store.tick`. Looks through a few lists for what has expired."""
        self._upkeep.tick()

    def _doubted(self) -> None:
        """Called in the heart's thread: the servers are perhaps not where they were."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._servers.doubt)
