"""`GET /v1/ws`: who may open a WebSocket, and the handler that serves it."""

from __future__ import annotations

from secrets import token_hex
from typing import Protocol

from aiohttp import web
from aiohttp.web_request import BaseRequest

from pool import AgentPool
from pool.errors import InvalidRequest
from pool.guard.caller import Caller
from protocol.authenticate.authenticator import Authenticator
from protocol.authenticate.credentials import NoCredentials
from protocol.config import ServerConfig
from protocol.origins import Origins
from protocol.proxies import Proxies
from protocol.ws import frames
from protocol.ws.connection import Connection
from protocol.ws.connections import Connections
from protocol.ws.socket import Socket
from protocol.ws.tickets import Tickets


class Host(Protocol):
    """What the door needs of the server it belongs to."""

    pool: AgentPool
    config: ServerConfig
    connections: Connections
    tickets: Tickets
    origins: Origins
    authenticator: Authenticator
    proxies: Proxies


async def websocket(server: Host, request: BaseRequest) -> web.StreamResponse:
    """Serve one WebSocket from its handshake to its end.

    Before the upgrade it is refused by `InvalidRequest` (no handshake, or not our subprotocol),
    `Forbidden` (a page of a strange origin) and `Unauthenticated` (credentials that are not good;
    without any it may still show a ticket).
    """
    connections = server.connections
    config = connections.config
    response = Socket.response_for(config)
    check_handshake(request, response)
    server.origins.check_page(request)
    caller = await _caller(server, request)
    try:
        socket = await Socket.upgrade(response, request, config)
    except ConnectionError:
        return response
    if connections.full_for_strangers if caller is None else connections.full:
        await _turn_away(socket)
        return response
    connection = Connection(
        token_hex(8),
        socket,
        pool=server.pool,
        caller=caller,
        client=server.proxies.client(request),
        authenticator=server.authenticator,
        connections=connections,
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


async def _caller(server: Host, request: BaseRequest) -> Caller | None:
    try:
        return await server.authenticator.caller(request)
    except NoCredentials:
        # it may still show a ticket
        return None


async def _turn_away(socket: Socket) -> None:
    socket.close(frames.TOO_MANY_CONNECTIONS, "too many connections")
    while await socket.receive() is not None:
        pass
    socket.release()
