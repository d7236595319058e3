"""Agents and the pool behind them: what there is, how it fares, how large it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from pool.errors import InvalidRequest
from protocol.http.reply import Answer, json

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server


class AgentBody(Struct, frozen=True):
    """An agent; the default answers turns that name none."""

    name: str
    description: str
    default: bool


class AgentsBody(Struct, frozen=True):
    """Every agent of the pool."""

    agents: list[AgentBody]


class ResizeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How many actors an agent may have; what is left out stays as it is."""

    min: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    max: Annotated[int, Meta(ge=1, le=100_000)] | None = None


async def agents(server: Server, request: Request) -> Answer:
    """`GET /v1/agents`"""
    pool = server.pool
    found = [
        AgentBody(name, spec.description, name == pool.default_agent)
        for name, spec in pool.specs.items()
    ]
    return json(200, msgspec.json.encode(AgentsBody(found)))


async def stats(server: Server, request: Request) -> Answer:
    """`GET /v1/pool`"""
    return json(200, msgspec.json.encode(server.pool.stats()))


async def resize(server: Server, request: Request) -> Answer:
    """`PATCH /v1/pool/{agent}`"""
    asked: ResizeRequest = request.body
    if asked.min is None and asked.max is None:
        raise InvalidRequest("give min, max or both")
    await server.pool.resize(request.params["agent"], min=asked.min, max=asked.max)
    return await stats(server, request)
