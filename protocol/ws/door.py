"""`GET /v1/ws`: who may open a WebSocket, and the handler that serves it."""

from __future__ import annotations

from secrets import token_hex
from typing import Protocol

from pool import AgentPool
from pool.guard.caller import Caller
from protocol.authenticate.authenticator import Authenticator
from protocol.authenticate.credentials import NoCredentials
from protocol.config import ServerConfig
from protocol.http.reply import Answer, Upgraded
from protocol.http.request import Request
from protocol.origins import Origins
from protocol.proxies import Proxies
from protocol.ws import frames
from protocol.ws.connection import Connection
from protocol.ws.connections import Connections
from protocol.ws.handshake import check_handshake, switching
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


async def websocket(server: Host, request: Request) -> Answer:
    """Open a WebSocket, and leave it to what serves it.

    Before the upgrade it is refused by `InvalidRequest` (no handshake, or not our subprotocol),
    `Forbidden` (a page of a strange origin) and `Unauthenticated` (credentials that are not good;
    without any it may still show a ticket).
    """
    connections = server.connections
    check_handshake(request)
    server.origins.check_page(request)
    caller = await _caller(server, request)
    client = server.proxies.client(request)
    full = connections.full_for_strangers if caller is None else connections.full
    socket = Socket(connections.config, connections.lost)
    try:
        request.connection.hand_over(socket, switching(request))
    except ConnectionError:
        return Upgraded()
    connections.opened(socket)
    if full:
        socket.serve(_turn_away(socket))
        return Upgraded()
    connection = Connection(
        token_hex(8),
        socket,
        pool=server.pool,
        caller=caller,
        client=client,
        authenticator=server.authenticator,
        connections=connections,
        tickets=server.tickets,
        flush_s=server.config.flush_s,
    )
    connection.serve()
    return Upgraded()


async def _caller(server: Host, request: Request) -> Caller | None:
    try:
        return await server.authenticator.caller(request)
    except NoCredentials:
        # it may still show a ticket
        return None


async def _turn_away(socket: Socket) -> None:
    socket.close(frames.TOO_MANY_CONNECTIONS, "too many connections")
    try:
        while await socket.receive() is not None:
            pass
    finally:
        socket.release()
