"""Who takes part in a Redis store, and is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pool.ids import PARTITIONS
from pool.store.redis_heart import Heart
from pool.store.redis_keys import COMMON
from pool.store.redis_nudges import Nudges
from pool.store.redis_part import RedisPart
from pool.store.sharing import Nudge, Replica


class RedisOwners(RedisPart):
    """The part of a Redis store that keeps owners alive."""

    shared = True
    lease_s: float
    _heart: Heart
    _nudges: Nudges

    async def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        """See `Sharing.join`. A thread keeps the owner alive, and one connection listens."""
        await self._nudges.add(owner, nudged)
        await self._show(owner)
        keys = (self._keys.replicas, self._keys.layout)
        await self._scripts.run(COMMON, "member", keys, (owner, self._heart.status_of(owner)))
        self._heart.add(owner)

    async def leave(self, owner: str) -> None:
        """See `Sharing.leave`."""
        # a beat that is under way would bring it back to life
        await asyncio.to_thread(self._heart.remove, owner)
        await self._nudges.remove(owner)
        await self._scripts.command_all(
            [
                (number, ("HDEL", self._keys.of_partition(number, "alive"), owner))
                for number in range(PARTITIONS)
            ]
        )
        await self._scripts.command(COMMON, "HDEL", self._keys.replicas, owner)

    def beat(self) -> bool:
        """Show at once that those who have joined live; whether Redis took it. The heart's thread
        does so by itself. Blocks: not for the event loop.
        """
        return self._heart.beat()

    def announce(self, owner: str, status: bytes) -> None:
        """See `Sharing.announce`."""
        self._heart.announce(owner, status)

    async def replicas(self) -> Sequence[Replica]:
        """See `Sharing.replicas`."""
        found = await self._scripts.run(COMMON, "members", (self._keys.replicas,))
        return sorted(
            (
                Replica(name.decode(), status)
                for name, status in zip(found[::2], found[1::2], strict=True)
            ),
            key=lambda replica: replica.name,
        )

    async def _shown(self, owner: str) -> None:
        """An owner has written to a session: all that it holds is kept, in every partition.

        The heart sees to that for those who have joined.
        """
        if owner and owner not in self._heart:
            await self._show(owner)

    async def _show(self, owner: str) -> None:
        await self._scripts.run_all(
            [
                (number, "beat", (self._keys.of_partition(number, "alive"),), (owner,))
                for number in range(PARTITIONS)
            ]
        )
