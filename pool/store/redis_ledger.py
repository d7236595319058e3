"""What the owners of this process hold, as they were told, compared with what Redis says.

A server that comes back without its last writes may say that an owner holds a session which that
owner let go of long ago, and nobody would ever run what is unfinished there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pool.ids import PARTITIONS
from pool.store.base import Lease, SessionKey
from pool.store.redis_keys import KeySpace, key_of
from pool.store.redis_scripts import Scripts
from pool.store.redis_servers import RedisServers


class Ledger:
    """The leases that were given to owners of this process, and not let go of.

    `owners` has those that have joined: nobody else shall judge of what they hold.
    """

    def __init__(
        self,
        servers: RedisServers,
        scripts: Scripts,
        keys: KeySpace,
        owners: Collection[str],
    ) -> None:
        self._servers = servers
        self._scripts = scripts
        self._keys = keys
        self._owners = owners
        self._held: dict[SessionKey, Lease] = {}
        # seen once: an answer may have been on its way
        self._suspects: set[tuple[SessionKey, str]] = set()
        self._since = [0] * PARTITIONS

    def __len__(self) -> int:
        return len(self._held)

    def took(self, lease: Lease) -> None:
        """A lease was given."""
        self._held[lease.key] = lease

    def let_go(self, lease: Lease) -> None:
        """It was released, or lost; a later one of the same session stays."""
        if self._held.get(lease.key) == lease:
            del self._held[lease.key]

    async def look(self, partition: int) -> list[SessionKey]:
        """Look into a partition, where something was suspected, and where a server came back.

        What is suspected twice is offered to whoever claims it; that is answered.
        """
        due = {partition, *self._changed()}
        due |= {self._keys.session(key).partition for key, _ in self._suspects}
        found = {each for number in due for each in await self._strays(number)}
        offered = found & self._suspects
        self._suspects = found - offered
        for key, owner in offered:
            names = self._keys.session(key)
            await self._scripts.step("stray", names, (owner, 0))
        return [key for key, _ in offered]

    def _changed(self) -> Iterable[int]:
        for number in range(PARTITIONS):
            since = self._servers.since(number)
            if since != self._since[number]:
                self._since[number] = since
                yield number

    async def _strays(self, partition: int) -> list[tuple[SessionKey, str]]:
        """Sessions that our owners hold, and do not know of."""
        work = self._keys.of_partition(partition, "work")
        found = await self._scripts.command(partition, "HGETALL", work)
        pairs = [
            (key_of(name.decode()), owner.decode())
            for name, owner in zip(found[::2], found[1::2], strict=True)
        ]
        return [
            (key, owner)
            for key, owner in pairs
            if owner in self._owners and (key not in self._held or self._held[key].owner != owner)
        ]
