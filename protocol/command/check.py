"""What `serve` would run, without running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pool import AgentPool
from protocol.authenticate.config import said
from protocol.authenticate.tokens import token_door
from protocol.command import places
from protocol.command.audited import check_audit
from protocol.command.costs import check_costs
from protocol.command.guards import check_guards
from protocol.command.load import load
from protocol.command.screen import visible
from protocol.settings import Settings
from protocol.webhook.poster import Poster


def check(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """One line for each part; `ConfigError` at the first mistake."""
    pool = AgentPool(load(settings.agents, environ), config=settings.pool, cost=settings.cost)
    for name, spec in pool.specs.items():
        agent = settings.agents[name]
        default = " (default)" if name == pool.default_agent else ""
        answers = agent.target or f"model {agent.model}"
        yield f"agent   {name}{default}: {answers}, {spec.min} to {spec.max} actors"
    server = settings.server
    yield f"server  {server.host}:{server.port}, drains for {server.drain_s:g} s"
    if settings.auth.with_tokens:
        token_door(settings.auth.rules)
    yield f"auth    {settings.auth.mode}: {said(settings.auth)}"
    store = places.store(settings.store, environ)
    yield f"store   {places.said(settings.store, environ)}"
    if settings.webhooks.secret:
        Poster(settings.webhooks)
    check_audit(settings.audit, store)
    yield f"hooks   {'signed' if settings.webhooks.secret else 'refused: there is no secret'}"
    yield f"audit   {visible(settings.audit.to)}"
    yield from check_costs(settings)
    yield from check_guards(settings)
    yield f"log     {settings.log.format}, from {settings.log.level} on"
