"""The WebSocket door's part of HTTP: the handshake, and tickets for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from protocol.http.reply import Answer, json
from protocol.ws import door
from protocol.ws.tickets import TTL_S

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server


class TicketBody(Struct, frozen=True):
    """A ticket for one `hello`, good for `ttl_s` seconds."""

    ticket: str
    ttl_s: float


async def websocket(server: Server, request: Request) -> Answer:
    """`GET /v1/ws`"""
    return await door.websocket(server, request.complete())


async def ticket(server: Server, request: Request) -> Answer:
    """`POST /v1/ws/tickets`"""
    issued = await server.tickets.issue(request.caller)
    return json(201, msgspec.json.encode(TicketBody(issued, TTL_S)))
