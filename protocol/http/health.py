"""Whether the server lives and may take traffic, and the document that describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from protocol.http.reply import Answer, json

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server


class HealthBody(Struct, frozen=True):
    """The process answers."""

    status: Literal["ok"] = "ok"


class CheckBody(Struct, frozen=True):
    """One thing that the server depends on; `detail` says what is wrong with it."""

    ok: bool
    detail: str | UnsetType = UNSET


class ReadyBody(Struct, frozen=True):
    """Whether the server may take traffic: a check for each thing that it depends on."""

    ready: bool
    checks: dict[str, CheckBody]


async def health(server: Server, request: Request) -> Answer:
    """`GET /health`"""
    return json(200, msgspec.json.encode(HealthBody()))


async def ready(server: Server, request: Request) -> Answer:
    """`GET /ready`"""
    found = await server.pool.ready()
    if server.draining:
        found = {**found, "draining": "the server is shutting down"}
    checks = {
        name: CheckBody(ok=reason is None, detail=UNSET if reason is None else reason)
        for name, reason in found.items()
    }
    disabled = server.pool.switches.off
    # what an operator has disabled is no reason to take the others out of traffic
    all_disabled = disabled.keys() >= server.pool.specs.keys()
    checks |= {
        f"agent:{name}": CheckBody(ok=not all_disabled, detail=switch.said)
        for name, switch in disabled.items()
        if name in server.pool.specs
    }
    body = ReadyBody(all(check.ok for check in checks.values()), checks)
    return json(200 if body.ready else 503, msgspec.json.encode(body), _retry(server, body))


def _retry(server: Server, body: ReadyBody) -> tuple[tuple[str, str], ...]:
    # like every 503, though this one is no problem but a report
    return () if body.ready else (("Retry-After", str(1 + int(server.random() * 2))),)


async def openapi(server: Server, request: Request) -> Answer:
    """`GET /openapi.json`"""
    return json(200, server.document)
