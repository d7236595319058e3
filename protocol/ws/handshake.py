"""The handshake of a WebSocket (RFC 6455, 4.2): which request is one, and its answer."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from typing import Final

from aiohttp import web
from aiohttp.http_websocket import WS_KEY

from pool.errors import InvalidRequest
from protocol.http.reply import Reply
from protocol.http.request import Request
from protocol.ws import frames

_SUBPROTOCOL: Final = "Sec-WebSocket-Protocol"


def check_handshake(request: Request) -> None:
    """`InvalidRequest` unless the request asks for a WebSocket with our subprotocol."""
    offered = ",".join(request.headers.getall(_SUBPROTOCOL, ()))
    if frames.SUBPROTOCOL not in [name.strip() for name in offered.split(",")]:
        raise InvalidRequest(f"ask for the subprotocol {frames.SUBPROTOCOL}", field=_SUBPROTOCOL)
    if not _is_handshake(request):
        raise InvalidRequest("this path takes WebSocket handshakes of version 13 only")
    if not request.content.is_eof():
        # it would be taken for frames
        raise InvalidRequest("a WebSocket handshake has no body")


def switching(request: Request) -> bytes:
    """The head that answers a handshake which was checked."""
    key = request.headers["Sec-WebSocket-Key"].encode()
    accepted = b64encode(sha1(key + WS_KEY, usedforsecurity=False).digest()).decode()
    headers = (
        ("Upgrade", "websocket"),
        ("Connection", "upgrade"),
        ("Sec-WebSocket-Accept", accepted),
        (_SUBPROTOCOL, frames.SUBPROTOCOL),
        *request.more_headers,
    )
    return Reply(101, headers=headers).raw(request.request_id, keep_alive=True)


def _is_handshake(request: Request) -> bool:
    try:
        return web.WebSocketResponse(protocols=(frames.SUBPROTOCOL,)).can_prepare(request).ok
    except ValueError:
        # a key that is not even ASCII
        return False
