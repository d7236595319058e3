"""The other processes on the same store: who is there, how they fare, who has room."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from pool.stats import AgentStats, PoolStats, ReplicaStats
from pool.store.base import Store
from pool.store.sharing import Replica

_decode = msgspec.json.Decoder(ReplicaStats).decode


class Replicas:
    """Announces this process to the others, and knows what they announced."""

    def __init__(self, name: str, store: Store, stats: Callable[[], PoolStats]) -> None:
        self.others: tuple[ReplicaStats, ...] = ()
        self._name = name
        self._store = store
        self._stats = stats
        self._names: set[str] = set()
        # turns given away since the others were last looked at, by agent
        self._given: dict[str, int] = {}

    async def refresh(self) -> bool:
        """Say how this process fares, see how the others do. Whether one has gone since."""
        if not self._store.shared:
            return False
        stats = self._stats()
        mine = ReplicaStats(
            name=self._name,
            draining=stats.draining,
            agents=stats.agents,
            turns=stats.turns,
            sessions=stats.sessions,
        )
        self._store.announce(self._name, msgspec.json.encode(mine))
        found = await self._store.replicas()
        names = {replica.name for replica in found}
        gone, self._names = bool(self._names - names), names
        others = (_read(replica) for replica in found if replica.name != self._name)
        self.others = tuple(other for other in others if other is not None)
        self._given.clear()
        return gone

    @property
    def serving(self) -> bool:
        """Whether another process takes turns."""
        return any(not other.draining for other in self.others)

    def serve(self, agent: str) -> bool:
        """Whether another process serves the agent."""
        return any(_of(other, agent) for other in self.others)

    def take_room(self, agent: str) -> bool:
        """Whether another process has an idle actor for a turn of this agent; it counts as used."""
        room = sum(_room(stats) for other in self.others for stats in _of(other, agent))
        given = self._given.get(agent, 0)
        if given >= room:
            return False
        self._given[agent] = given + 1
        return True


async def agents_up(store: Store) -> Collection[str]:
    """The agents of the processes that are up; empty if there are none, or if the store does not
    tell its processes of each other.
    """
    found = map(_read, await store.replicas())
    return {agent.name for each in found if each is not None for agent in each.agents}


def _read(replica: Replica) -> ReplicaStats | None:
    try:
        return _decode(replica.status) if replica.status else None
    except msgspec.MsgspecError:
        # of another version, which says other things of itself: nothing is given away to it
        return None


def _of(replica: ReplicaStats, agent: str) -> list[AgentStats]:
    return [] if replica.draining else [a for a in replica.agents if a.name == agent]


def _room(stats: AgentStats) -> int:
    """How many turns could start at once there."""
    free = stats.limit.total - stats.limit.held
    return max(0, min(stats.actors.idle, free) - stats.queued)
