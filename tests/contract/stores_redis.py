"""The Redis store, on one server and on a cluster.

Redis has a clock of its own that no test can turn. To let time pass the scripts' clock goes ahead
of it, and what expires by itself does so sooner.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from functools import cache, partial
from typing import Final, NamedTuple, TypeVar

import pytest

from pool.store.redis import RedisStore
from tests.contract.opened import Opened, Opening
from tests.support.redis_process import RedisServer
from tests.support.redis_servers import cluster, redis_server

T = TypeVar("T")

# Long beside what a call takes, so that nothing lapses by itself.
LEASE_S: Final = 20.0

# ARGV: 1 by how many milliseconds
_AGE: Final = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key) - tonumber(ARGV[1])
  if left > 0 then
    redis.call('PEXPIRE', key, left)
  elseif redis.call('PTTL', key) >= 0 then
    redis.call('DEL', key)
  end
end
"""


class AgeingStore(RedisStore):
    """A Redis store whose clock can be turned."""

    _ahead_s = 0.0

    async def pass_time(self, seconds: float, masters: Sequence[RedisServer]) -> None:
        """Let time pass for what is kept, and for the scripts' clock; and who has joined beats."""
        self._ahead_s += seconds
        self._scripts.set_ahead(int(self._ahead_s * 1_000_000))
        for master in masters:
            master.execute("EVAL", _AGE, 0, int(seconds * 1000))
        await asyncio.to_thread(self.beat)


class _Servers(NamedTuple):
    url: str
    masters: Sequence[RedisServer]


@cache
def _server() -> _Servers:
    server = _kept(redis_server())
    return _Servers(server.url, [server])


@cache
def _cluster() -> _Servers:
    found = _kept(cluster())
    return _Servers(found.url, found.nodes[:3])


def _kept(context: AbstractContextManager[T]) -> T:
    """What runs until this process ends: to start it for each test would take too long."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(context)


def opening_of(servers: Callable[[], _Servers]) -> Opening:
    """Opens a store on these servers, emptied before."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[Opened]:
        url, masters = servers()
        for master in masters:
            master.execute("FLUSHALL")
        store = AgeingStore(url, lease_s=LEASE_S)
        try:
            await store.open()
            yield Opened(store, partial(store.pass_time, masters=masters))
        finally:
            await store.close()

    return opening


STORES = [
    pytest.param(opening_of(_server), id="redis", marks=pytest.mark.real_time),
    pytest.param(opening_of(_cluster), id="redis cluster", marks=pytest.mark.real_time),
]
