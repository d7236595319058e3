"""The servers behind a URL, and which of them has which partition.

One server has all of them, and so has the master that sentinels name; in a cluster each has some.
What is refused because a server is not the right one, or not yet, was not carried out: it is sent
again, where it belongs, a few times within the timeout. Nothing else is ever sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from random import Random
from typing import Any, Final

from hiredis import ReplyError
from redis.crc import key_slot

from pool.errors import StoreUnavailable
from pool.store.redis_link import RedisLink, ask
from pool.store.redis_url import Address, RedisUrl
from pool.store.redis_wire import code_of, unavailable

# Refusals that pass: a slot on its way, a failover, a server that loads its data.
_PASSING: Final = frozenset({"TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN"})
_PAUSE_S: Final = 0.02
# Who asked where the servers are need not ask again at once.
FOUND_FRESH_S: Final = 0.1


class RedisServers:
    """Sends commands to the server that has a partition.

    `keys`: for each partition a key of it. Every call fails with `StoreUnavailable` if the server
    cannot be reached within about `timeout_s`.
    """

    def __init__(
        self, url: RedisUrl, keys: Sequence[str], *, timeout_s: float, random: Random
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._random = random
        self._slots = [key_slot(key.encode()) for key in keys]
        self._links: dict[Address, RedisLink] = {}
        # by partition; empty until they were found
        self._homes: list[RedisLink] = []
        self._finding: asyncio.Task[None] | None = None
        self._found_at = float("-inf")
        self._closed = False

    def __repr__(self) -> str:
        return f"<RedisServers {self._url.shown} [{', '.join(map(repr, self._links.values()))}]>"

    # --- calls

    async def call(self, partition: int, packed: bytes) -> Any:
        """What a packed command answers; an error reply is an answer (`ReplyError`)."""
        if self._homes and (home := self._homes[partition]).up:
            answer = await home.send(packed)
        else:
            answer = await (await self.reach(partition)).call(packed)
        if isinstance(answer, ReplyError):
            return await self._insist(partition, packed, answer)
        return answer

    async def reach(self, partition: int) -> RedisLink:
        """The connected link to the server that has the partition."""
        if not (self._homes and self._homes[partition].up):
            await self._find_soon()
        home = self._homes[partition]
        await home.connect()
        return home

    def since(self, partition: int) -> int:
        """When the connection to the partition's server began, in ms of its time: whatever was
        written before may have been lost with the server that was there then.
        """
        return self._homes[partition].since if self._homes else 0

    def given(self, partition: int, epoch: int) -> None:
        """An epoch was given out: `since` is later, once the server is another."""
        home = self._homes[partition]
        home.newest_epoch = max(home.newest_epoch, epoch)

    def addresses(self) -> Sequence[Address]:
        """Where each partition is, as far as is known."""
        return [home.address for home in self._homes]

    def links(self) -> Sequence[RedisLink]:
        """Those that have a partition."""
        return list(dict.fromkeys(self._homes))

    def doubt(self) -> None:
        """The partitions are perhaps not where they were: find them anew, soon."""
        if not self._closed and self._finding is None:
            self._begin_find()

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.wait([self._finding])
        for link in self._links.values():
            await link.close()

    # --- refusals

    async def _insist(self, partition: int, packed: bytes, refusal: ReplyError) -> Any:
        """Send again what was refused by the wrong server, or at the wrong time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        answer: Any = refusal
        while isinstance(answer, ReplyError):
            code, rest = code_of(answer), str(answer).partition(" ")[2]
            if code not in ("MOVED", "ASK") and code not in _PASSING:
                return answer
            if loop.time() > deadline:
                raise unavailable(f"it is in a change ({code})", 0.5)
            answer = await self._send_again(partition, packed, code, rest)
        return answer

    async def _send_again(self, partition: int, packed: bytes, code: str, rest: str) -> Any:
        if code == "ASK":
            return await self._link(self._told(partition, rest)).call_asking(packed)
        if code == "MOVED":
            self._settle(partition, self._link(self._told(partition, rest)))
        else:
            await asyncio.sleep(_PAUSE_S * self._random.uniform(0.5, 1.5))
            if code != "LOADING" and self._url.kind != "server":
                if code == "READONLY":
                    self._homes[partition].drop()
                await self._find_soon()
        return await (await self.reach(partition)).call(packed)

    def _told(self, partition: int, rest: str) -> Address:
        """The address in a redirection; without a host it is the one that was asked."""
        host, _, port = rest.partition(" ")[2].rpartition(":")
        return Address(host or self._homes[partition].address.host, int(port))

    # --- finding

    async def _find_soon(self) -> None:
        """Find out where the partitions are; all who ask meanwhile share one attempt."""
        loop = asyncio.get_running_loop()
        if self._closed:
            raise unavailable("the store is closed")
        fresh = self._homes and loop.time() - self._found_at < FOUND_FRESH_S
        if self._finding is None and fresh:
            return
        finding = self._finding or self._begin_find()
        try:
            await asyncio.shield(finding)
        except asyncio.CancelledError:
            if not finding.cancelled():
                raise
            raise unavailable("the store is closed") from None

    def _begin_find(self) -> asyncio.Task[None]:
        self._finding = asyncio.create_task(self._find(), name="find Redis")
        self._finding.add_done_callback(self._found)
        return self._finding

    def _found(self, task: asyncio.Task[None]) -> None:
        self._finding = None
        if not task.cancelled() and task.exception() is None:
            self._found_at = asyncio.get_running_loop().time()

    async def _find(self) -> None:
        url = self._url
        if url.kind == "cluster":
            # any node knows the others: those from before, and those of the URL
            known = dict.fromkeys((*self._links, *url.addresses))
            await self._take_slots(await _first([self._ask_slots(each) for each in known]))
        elif url.kind == "sentinel":
            master = await _first([self._ask_master(each) for each in url.addresses])
            self._settle_all([self._link(master)] * len(self._slots))
        else:
            self._settle_all([self._link(url.addresses[0])] * len(self._slots))

    async def _ask_master(self, sentinel: Address) -> Address:
        words = ("SENTINEL", "get-master-addr-by-name", self._url.master)
        answer = await ask(sentinel, self._url.sentinel_login, *words, timeout_s=self._timeout_s)
        if not isinstance(answer, list):
            raise unavailable(f"the sentinel at {sentinel} knows no master of that name")
        return Address(answer[0].decode(), int(answer[1]))

    async def _ask_slots(self, node: Address) -> Sequence[tuple[int, int, Address]]:
        answer = await ask(node, self._url.login, "CLUSTER", "SLOTS", timeout_s=self._timeout_s)
        if isinstance(answer, ReplyError) or not answer:
            raise unavailable(f"Redis at {node} is no part of a cluster that works")
        return [
            (first, last, Address((host or b"").decode() or node.host, port))
            for first, last, (host, port, *_), *_ in answer
        ]

    async def _take_slots(self, ranges: Sequence[tuple[int, int, Address]]) -> None:
        homes = []
        for slot in self._slots:
            address = next((each for first, last, each in ranges if first <= slot <= last), None)
            if address is None:
                raise unavailable("the cluster does not serve all slots")
            homes.append(self._link(address))
        self._settle_all(homes)
        for address in set(self._links) - {home.address for home in homes}:
            await self._links.pop(address).close()

    def _settle_all(self, homes: list[RedisLink]) -> None:
        if not self._homes:
            self._homes = homes
        for partition, home in enumerate(homes):
            self._settle(partition, home)

    def _settle(self, partition: int, home: RedisLink) -> None:
        before = self._homes[partition]
        if before is not home:
            # what was written there may be missing here
            home.newest_epoch = max(home.newest_epoch, before.newest_epoch)
            home.since = max(home.since, home.newest_epoch + 1)
            self._homes[partition] = home

    def _link(self, address: Address) -> RedisLink:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = RedisLink(
                address, self._url.login, timeout_s=self._timeout_s, random=self._random
            )
        return link


async def _first(attempts: Sequence[Awaitable[Any]]) -> Any:
    """What the first gives that succeeds; if none does, what the last says."""
    tasks = [asyncio.ensure_future(attempt) for attempt in attempts]
    try:
        failure: StoreUnavailable | None = None
        for done in asyncio.as_completed(tasks):
            try:
                return await done
            except StoreUnavailable as error:
                failure = error
        raise failure or unavailable("no server is named")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
