"""What `serve` would run, without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pool import AgentPool
from protocol.command.load import load
from protocol.settings import Settings


def check(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """One line for each part; `ConfigError` at the first mistake."""
    pool = AgentPool(load(settings.agents, environ), config=settings.pool)
    for name, spec in pool.specs.items():
        agent = settings.agents[name]
        default = " (default)" if name == pool.default_agent else ""
        answers = agent.target or f"model {agent.model}"
        yield f"agent   {name}{default}: {answers}, {spec.min} to {spec.max} actors"
    server = settings.server
    yield f"server  {server.host}:{server.port}, drains for {server.drain_s:g} s"
    yield f"store   {settings.store.kind}"
    yield f"log     {settings.log.format}, from {settings.log.level} on"
