"""`GET /v1/ws`: who may open a WebSocket, and the handler that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from typing import Final, Protocol
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.web_request import BaseRequest

from pool import AgentPool
from pool.errors import Forbidden, InvalidRequest
from pool.turn import Principal
from protocol.config import ServerConfig
from protocol.problems import Unauthenticated
from protocol.ws import frames
from protocol.ws.connection import Connection
from protocol.ws.connections import Connections
from protocol.ws.socket import Socket
from protocol.ws.tickets import Tickets

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class Host(Protocol):
    """What the door needs of the server it belongs to."""

    pool: AgentPool
    config: ServerConfig
    connections: Connections
    tickets: Tickets

    def authenticate(self, request: BaseRequest) -> Principal:
        """Who is calling; `Unauthenticated` if that is not known."""


async def websocket(server: Host, request: BaseRequest) -> web.StreamResponse:
    """Serve one WebSocket from its handshake to its end.

    Before the upgrade it is refused by `InvalidRequest` (no handshake, or not our subprotocol) and
    `Forbidden` (a page of a strange origin).
    """
    config = server.connections.config
    response = Socket.response_for(config)
    check_handshake(request, response)
    check_origin(request, server.config.allowed_origins)
    principal = _principal(server, request)
    try:
        socket = await Socket.upgrade(response, request, config)
    except ConnectionError:
        return response
    if server.connections.full:
        await _turn_away(socket)
        return response
    connection = Connection(
        token_hex(8),
        socket,
        pool=server.pool,
        principal=principal,
        connections=server.connections,
        tickets=server.tickets,
        flush_s=server.config.flush_s,
    )
    await connection.run()
    return response


def check_handshake(request: BaseRequest, response: web.WebSocketResponse) -> None:
    """`InvalidRequest` unless the request asks for a WebSocket with our subprotocol."""
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ()))
    if frames.SUBPROTOCOL not in [name.strip() for name in offered.split(",")]:
        raise InvalidRequest(
            f"ask for the subprotocol {frames.SUBPROTOCOL}", field="Sec-WebSocket-Protocol"
        )
    if not response.can_prepare(request):
        raise InvalidRequest("this path takes WebSocket handshakes of version 13 only")


def check_origin(request: BaseRequest, allowed: Sequence[str]) -> None:
    """`Forbidden` for a page that is neither ours nor allowed. Programs send no Origin."""
    origins = request.headers.getall("Origin", ())
    if not origins:
        return
    origin = origins[0].lower()
    ours = _same_host(origin, request.headers.get("Host", ""))
    if len(origins) > 1 or not (ours or origin in allowed):
        raise Forbidden("pages of this origin may not connect; add it to allowed_origins if it may")


def _same_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    port = _DEFAULT_PORTS.get(parts.scheme)
    # "null" has neither
    if port is None or not parts.netloc:
        return False
    return parts.netloc.removesuffix(port) == host.lower().removesuffix(port)


def _principal(server: Host, request: BaseRequest) -> Principal | None:
    try:
        return server.authenticate(request)
    except Unauthenticated:
        # it may still show a ticket
        return None


async def _turn_away(socket: Socket) -> None:
    socket.close(frames.TOO_MANY_CONNECTIONS, "too many connections")
    while await socket.receive() is not None:
        pass
    socket.release()
