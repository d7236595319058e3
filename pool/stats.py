"""What a pool is like at one moment, as frozen records."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pool.dispatcher import Dispatcher
from pool.turn import Priority


class ActorStats(Struct, frozen=True):
    """How many actors of an agent are in each state. Abandoned ones no longer count as live."""

    idle: int
    busy: int
    starting: int
    abandoned: int


class LimitStats(Struct, frozen=True):
    """The concurrency limit: its name, how many permits there are, and how many are held."""

    name: str
    total: int
    held: int


class RateStats(Struct, frozen=True):
    """Turns a second, averaged over the last minute."""

    started_per_s: float
    refused_per_s: float


class AgentStats(Struct, frozen=True, kw_only=True):
    """One agent. Times and durations in seconds; `None` where nothing is known yet.

    `queued`: turns that wait for an actor; `waiting`: those and the turns that wait for their
    session. `estimated_wait_s`: how long a new turn would wait. `shedding`: the priorities refused
    now.
    """

    name: str
    description: str
    state: Literal["starting", "ready", "degraded"]
    detail: str | None
    min: int
    max: int
    actors: ActorStats
    queued: int
    waiting: int
    oldest_wait_s: float
    estimated_wait_s: float
    mean_hold_s: float | None
    limit: LimitStats
    rates: RateStats
    shedding: tuple[Priority, ...]
    refused: dict[str, int]
    stopped: dict[str, int]


class ReplicaStats(Struct, frozen=True):
    """Another process on the same store, as it last said it was."""

    name: str
    draining: bool
    agents: tuple[AgentStats, ...]
    turns: int
    sessions: int


class PoolStats(Struct, frozen=True):
    """The whole pool: its agents, how many turns have not ended, how many sessions are in use; and
    the other processes on the same store.
    """

    name: str
    draining: bool
    agents: tuple[AgentStats, ...]
    turns: int
    sessions: int
    replicas: tuple[ReplicaStats, ...] = ()


def agent_stats(dispatcher: Dispatcher, now: float) -> AgentStats:
    """A snapshot of one agent."""
    supervisor = dispatcher.supervisor
    opened = supervisor.live or not supervisor.starting
    state: Literal["starting", "ready", "degraded"] = "ready" if opened else "starting"
    if supervisor.degraded is not None:
        state = "degraded"
    return AgentStats(
        name=dispatcher.name,
        description=dispatcher.spec.description,
        state=state,
        detail=supervisor.degraded,
        min=dispatcher.least,
        max=dispatcher.most,
        actors=ActorStats(
            idle=len(supervisor.idle),
            busy=len(supervisor.busy),
            starting=len(supervisor.starting),
            abandoned=len(supervisor.abandoned),
        ),
        queued=len(dispatcher.queue),
        waiting=dispatcher.waiting,
        oldest_wait_s=dispatcher.oldest_wait_s(now),
        estimated_wait_s=dispatcher.estimate_s("default"),
        mean_hold_s=dispatcher.mean_hold_s,
        limit=LimitStats(
            dispatcher.limiter.name, dispatcher.limiter.limit, dispatcher.limiter.held
        ),
        rates=RateStats(
            dispatcher.start_rate.per_s(dispatcher.starts, now),
            dispatcher.refusal_rate.per_s(dispatcher.refused.total(), now),
        ),
        shedding=dispatcher.shedding,
        refused=dict(dispatcher.refused),
        stopped={str(reason): count for reason, count in supervisor.stops.items()},
    )
