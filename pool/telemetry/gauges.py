"""The families of metrics that are a pool's state at the moment of a scrape: read, never pushed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from pool.stats import AgentStats, PoolStats

_GAUGES: Final[tuple[tuple[str, str, Callable[[AgentStats], float]], ...]] = (
    (
        "actorpool_queue_turns",
        "Turns that wait for an actor.",
        lambda agent: agent.queued,
    ),
    (
        "actorpool_queue_oldest_seconds",
        "Seconds that the turn at the head of the queue has waited.",
        lambda agent: agent.oldest_wait_s,
    ),
    (
        "actorpool_queue_estimate_seconds",
        "Seconds that a new turn would have to wait.",
        lambda agent: agent.estimated_wait_s,
    ),
    (
        "actorpool_limit",
        "The concurrency limit: turns that may run at once.",
        lambda agent: agent.limit.total,
    ),
    (
        "actorpool_limit_held",
        "Turns that hold a permit under the limit.",
        lambda agent: agent.limit.held,
    ),
    (
        "actorpool_agent_degraded",
        "1 while the agent's turns are refused because its actors keep failing.",
        lambda agent: agent.state == "degraded",
    ),
)


def gauges(stats: PoolStats) -> Iterator[Metric]:
    """The families, with one sample an agent (and state of its actors)."""
    actors = GaugeMetricFamily(
        "actorpool_actors", "Actors, by what they do now.", labels=("agent", "state")
    )
    for agent in stats.agents:
        for state in agent.actors.__struct_fields__:
            actors.add_metric((agent.name, state), getattr(agent.actors, state))
    yield actors
    for name, help_, read in _GAUGES:
        family = GaugeMetricFamily(name, help_, labels=("agent",))
        for agent in stats.agents:
            family.add_metric((agent.name,), read(agent))
        yield family
    yield GaugeMetricFamily(
        "actorpool_replicas",
        "Processes that share the store, this one included.",
        value=1 + len(stats.replicas),
    )
    yield GaugeMetricFamily("actorpool_sessions", "Sessions in use.", value=stats.sessions)
    yield GaugeMetricFamily(
        "actorpool_turns_unfinished", "Turns that have not ended.", value=stats.turns
    )
