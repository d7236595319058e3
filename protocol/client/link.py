"""One WebSocket connection of a chat: frames in, text out, and how it ended."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import WSMsgType
from msgspec import DecodeError, Raw, Struct

from protocol.client.errors import ClosedByServer, ConnectionLost, ProblemError, ProtocolViolation
from protocol.client.http import Http
from protocol.client.models import ClientTurn, ProblemBody

_SUBPROTOCOL: Final = "actorpool.v1"
_FINAL: Final = range(4400, 4500)
# The server is gone when it has not pinged for so many of its heartbeats.
_SILENT_BEATS: Final = 2.5
# How long the server has to answer a close, in seconds.
_CLOSE_S: Final = 1.0
# Refused handshakes that may be tried again.
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})


class ServerFrame(Struct, frozen=True):
    """Anything the server sends; which fields are there depends on `type`."""

    type: str
    ref: int | None = None
    event: Raw = Raw()
    turn: ClientTurn | None = None
    cursor: str | None = None
    session_id: str | None = None
    error: ProblemBody | None = None
    connection_id: str = ""
    heartbeat_s: float = 30.0
    max_frame_bytes: int = 0
    window: int = 1
    reason: str = ""
    reconnect_after_s: float = 0.0


_frame: Final[msgspec.json.Decoder[ServerFrame]] = msgspec.json.Decoder(ServerFrame)


class Link:
    """An open connection."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, timeout_s: float) -> None:
        self._socket = socket
        self._silence_s = timeout_s
        self._max_frame_bytes = 0

    @classmethod
    async def open(cls, http: Http) -> Link:
        """Connect. `ConnectionLost`, or `ProblemError` if the handshake is refused for good."""
        try:
            socket = await http.session.ws_connect(
                http.url + "/v1/ws",
                protocols=(_SUBPROTOCOL,),
                max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
            )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in _TRY_AGAIN:
                raise ConnectionLost(f"the WebSocket was refused: {error.status}") from error
            raise ProblemError(_refusal(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectionLost(f"{http.url} does not answer: {type(error).__name__}") from error
        return cls(socket, http.timeout_s)

    def welcomed(self, frame: ServerFrame) -> None:
        """The server said how often it pings, and what it takes."""
        self._silence_s = frame.heartbeat_s * _SILENT_BEATS
        self._max_frame_bytes = frame.max_frame_bytes

    def check_size(self, text: str) -> None:
        """`ProblemError` for a frame that would end the connection."""
        size = len(text.encode())
        if self._max_frame_bytes and size > self._max_frame_bytes:
            detail = f"the command has {size} bytes; the server takes {self._max_frame_bytes}"
            raise ProblemError(ProblemBody(code="too_large", status=413, detail=detail))

    async def send(self, text: str) -> None:
        """Send a frame. If the connection is gone, `receive` says so: nothing is raised here."""
        with suppress(aiohttp.ClientError, ConnectionError):
            await self._socket.send_str(text)

    async def receive(self) -> ServerFrame:
        """The next frame. `ConnectionLost` if one may reconnect, `ClosedByServer` if not."""
        try:
            message = await self._socket.receive(timeout=self._silence_s)
        except TimeoutError as error:
            raise ConnectionLost("the server has fallen silent") from error
        if message.type is WSMsgType.TEXT:
            return _decode(message.data)
        code = self._socket.close_code or 1006
        if code in _FINAL:
            raise ClosedByServer(code, message.extra or "")
        raise ConnectionLost(f"the connection was closed ({code})")

    async def close(self) -> None:
        """Say goodbye."""
        with suppress(aiohttp.ClientError, ConnectionError):
            await self._socket.close()


def _decode(data: Any) -> ServerFrame:
    try:
        return _frame.decode(data)
    except DecodeError as error:
        raise ProtocolViolation(f"a frame is not as the protocol says: {error}") from None


def _refusal(error: aiohttp.WSServerHandshakeError) -> ProblemBody:
    codes = {401: "unauthenticated", 403: "forbidden", 404: "not_found"}
    detail = f"the WebSocket was refused with {error.status}"
    code = codes.get(error.status, "invalid_request")
    return ProblemBody(code=code, status=error.status, detail=detail)
