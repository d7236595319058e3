"""Nudges through Redis's channels: one connection that listens for all owners of a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final, Literal

import structlog
from hiredis import ReplyError

from pool.backoff import Backoff
from pool.errors import StoreUnavailable
from pool.store.redis_keys import COMMON, KeySpace, key_of
from pool.store.redis_link import open_wire
from pool.store.redis_scripts import fault
from pool.store.redis_servers import RedisServers
from pool.store.redis_url import Login
from pool.store.redis_wire import Wire, pack
from pool.store.sharing import Nudge

_log = structlog.get_logger("pool.store.redis")

_KINDS: Final[dict[str, Literal["inbox", "events", "work"]]] = {
    "inbox": "inbox",
    "events": "events",
    "work": "work",
}
_PING: Final = pack(("PING",))


class Nudges:
    """Listens for the owners that were added.

    A lost connection is made again; then hints may have been lost, and all are told (`all`). A
    server that says nothing is asked every `ping_s` whether it is still there.
    """

    def __init__(
        self,
        servers: RedisServers,
        keys: KeySpace,
        login: Login,
        *,
        timeout_s: float,
        ping_s: float,
        random: Random,
    ) -> None:
        self._servers = servers
        self._keys = keys
        self._login = login
        self._timeout_s = timeout_s
        self._ping_s = ping_s
        self._told: dict[str, Callable[[Nudge], None]] = {}
        self._adding = asyncio.Lock()
        self._wire: Wire | None = None
        self._listening: asyncio.Task[None] | None = None
        self._backoff = Backoff(
            first_s=0.05, max_s=2.0, quiet_s=5.0, tolerated=2**30, window_s=1.0, random=random
        )

    async def add(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        """Nudge an owner from now on."""
        async with self._adding:
            before = self._told.get(owner)
            self._told[owner] = nudged
            try:
                await self._add(owner)
            except BaseException:
                # it goes on as it was
                self._told.pop(owner, None)
                if before is not None:
                    self._told[owner] = before
                raise

    async def _add(self, owner: str) -> None:
        if self._wire is not None:
            await self._subscribe(self._wire, self._keys.channel(owner))
        elif self._listening is None:
            wire = await self._open()
            self._listening = asyncio.create_task(self._listen(wire), name="nudges from Redis")
        # else it is subscribed with the others, as soon as there is a connection

    async def remove(self, owner: str) -> None:
        """Nudge it no more."""
        if self._told.pop(owner, None) is None:
            return
        if not self._told:
            await self.close()
        elif self._wire is not None:
            # if the connection is lost there is nothing to end
            with suppress(StoreUnavailable):
                await self._wire.send(pack(("UNSUBSCRIBE", self._keys.channel(owner))))

    async def close(self) -> None:
        """Listen no more."""
        task, self._listening = self._listening, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self, wire: Wire) -> None:
        try:
            while True:
                await self._until_lost(wire)
                wire = await self._open_again()
                for nudged in tuple(self._told.values()):
                    nudged(Nudge("all"))
        finally:
            if self._wire is not None:
                self._wire.close()
            self._wire = None

    async def _until_lost(self, wire: Wire) -> None:
        try:
            while not (await asyncio.wait([wire.closed], timeout=self._ping_s))[0]:
                await wire.send(_PING)
        except StoreUnavailable as error:
            _log.warning("nudges are late", detail=error.detail)
        self._wire = None

    async def _open_again(self) -> Wire:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await self._open()
            except StoreUnavailable:
                await asyncio.sleep(self._backoff.failed(loop.time()))

    async def _open(self) -> Wire:
        home = await self._servers.reach(COMMON)
        wire = await open_wire(
            home.address, self._login, timeout_s=self._timeout_s, pushed=self._pushed
        )
        try:
            await self._subscribe(wire, self._keys.everybody)
            # some may be added meanwhile
            subscribed: set[str] = set()
            while missing := self._told.keys() - subscribed:
                channels = [self._keys.channel(owner) for owner in missing]
                await asyncio.gather(*[self._subscribe(wire, channel) for channel in channels])
                subscribed |= missing
        except BaseException:
            wire.close()
            raise
        self._wire = wire
        return wire

    @staticmethod
    async def _subscribe(wire: Wire, channel: str) -> None:
        answer = await wire.send(pack(("SUBSCRIBE", channel)))
        if isinstance(answer, ReplyError):
            raise fault("SUBSCRIBE", answer)

    def _pushed(self, channel: bytes, message: bytes) -> None:
        kind, *words = message.decode().split(" ")
        if kind not in _KINDS:
            # of a later version
            return
        nudge = Nudge(_KINDS[kind], key_of(words[0]))
        if channel.decode() == self._keys.everybody:
            but = words[1]
            told = [nudged for owner, nudged in self._told.items() if owner != but]
        else:
            owner = channel.decode().removeprefix(self._keys.channel(""))
            told = [nudged for name, nudged in self._told.items() if name == owner]
        for nudged in told:
            nudged(nudge)
