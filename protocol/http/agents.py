"""Agents and the pool behind them: what there is, how it fares, how large it may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

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

    min: Annotated[int, Meta(ge=0, le=100_000)] | UnsetType = UNSET
    max: Annotated[int, Meta(ge=1, le=100_000)] | UnsetType = UNSET


_SOME: Final = {"anyOf": [{"required": ["min"]}, {"required": ["max"]}]}
ResizeBody = Annotated[ResizeRequest, Meta(extra_json_schema=_SOME)]


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
    if asked.min is UNSET and asked.max is UNSET:
        raise InvalidRequest("give min, max or both")
    await server.pool.resize(
        request.params["agent"],
        min=None if asked.min is UNSET else asked.min,
        max=None if asked.max is UNSET else asked.max,
    )
    _note_resize(server, request, asked)
    return await stats(server, request)


def _note_resize(server: Server, request: Request, asked: ResizeRequest) -> None:
    audit = server.pool.audit
    if audit is not None:
        given = {"min": asked.min, "max": asked.max}.items()
        what = ", ".join(f"{name} {number}" for name, number in given if number is not UNSET)
        subject = f"agent:{request.params['agent']}"
        who, request_id = request.principal, request.request_id
        audit.record("admin.resize_agent", "done", who, subject, request_id, reason=what)
