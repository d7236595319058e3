"""What the server sends: the JSON of each kind of frame, and frames as bytes on the wire. Pure.

The bytes of RFC 6455 are made here and not by aiohttp, so that all that is ready for a connection
is one write.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final

import msgspec

from pool.events import Event
from pool.turn import Turn
from protocol import encode
from protocol.problems import Problem
from protocol.ws.commands import Ref

SUBPROTOCOL: Final = "actorpool.v1"

# Close codes: from 4400 to 4499 a client need not try again, from 4000 it may resume.
GOING_AWAY: Final = 1001
INTERNAL: Final = 1011
TOO_SLOW: Final = 4008
HEARTBEAT_MISSED: Final = 4009
BAD_FRAME: Final = 4400
UNAUTHENTICATED: Final = 4401
FORBIDDEN: Final = 4403
NO_HELLO: Final = 4408
FRAME_TOO_LARGE: Final = 4413
TOO_MANY_CONNECTIONS: Final = 4429

_FIN: Final = 0x80
_TEXT: Final = 0x1
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
# A control frame holds 125 bytes, two of which are the close code.
_REASON_BYTES: Final = 123

_short: Final = Layout("!BB").pack
_medium: Final = Layout("!BBH").pack
_long: Final = Layout("!BBQ").pack
_code: Final = Layout("!H").pack

_encode = msgspec.json.Encoder().encode


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return _short(_FIN | opcode, size) + payload
    if size < 65_536:
        return _medium(_FIN | opcode, 126, size) + payload
    return _long(_FIN | opcode, 127, size) + payload


def ping() -> bytes:
    """The heartbeat's ping."""
    return _frame(_PING, b"")


def pong(payload: bytes) -> bytes:
    """The answer to a peer's ping."""
    return _frame(_PONG, payload)


def close(code: int, reason: str) -> bytes:
    """The last frame; a code of 0 says nothing. What does not fit of the reason is left out."""
    if not code:
        return _frame(_CLOSE, b"")
    text = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
    return _frame(_CLOSE, _code(code) + text.encode())


def event(event: Event) -> bytes:
    """One event of a session."""
    return _frame(_TEXT, b'{"type":"event","event":' + encode.event(event) + b"}")


def welcome(
    ref: Ref | None, *, connection_id: str, heartbeat_s: float, max_frame_bytes: int, window: int
) -> bytes:
    """The answer to `hello`."""
    return _answer(
        "welcome",
        ref,
        connection_id=_encode(connection_id),
        heartbeat_s=_encode(heartbeat_s),
        max_frame_bytes=_encode(max_frame_bytes),
        window=_encode(window),
    )


def accepted_turn(ref: Ref | None, turn: Turn) -> bytes:
    """The answer to `turn`, `cancel` and `approve`."""
    return _answer("accepted", ref, turn=encode.turn(turn))


def subscribed(ref: Ref | None, cursor: str) -> bytes:
    """The answer to `subscribe`: what follows the cursor is sent."""
    return _answer("accepted", ref, cursor=_encode(cursor))


def accepted(ref: Ref | None) -> bytes:
    """The answer to `unsubscribe`."""
    return _answer("accepted", ref)


def command_pong(ref: Ref | None) -> bytes:
    """The answer to the command `ping`."""
    return _answer("pong", ref)


def error(ref: Ref | None, problem: Problem, session_id: str | None = None) -> bytes:
    """A command failed; with a session, that session is not read (any more)."""
    if session_id is None:
        return _answer("error", ref, error=encode.problem(problem))
    return _answer("error", ref, session_id=_encode(session_id), error=encode.problem(problem))


def goodbye(reason: str, reconnect_after_s: float) -> bytes:
    """The server is about to go; come back after so many seconds."""
    after_s = _encode(round(reconnect_after_s, 3))
    return _answer("goodbye", None, reason=_encode(reason), reconnect_after_s=after_s)


def _answer(kind: str, ref: Ref | None, **fields: bytes) -> bytes:
    parts = [f'{{"type":"{kind}"'.encode()]
    if ref is not None:
        parts.append(b',"ref":' + _encode(ref))
    for name, value in fields.items():
        parts.append(f',"{name}":'.encode() + value)
    parts.append(b"}")
    return _frame(_TEXT, b"".join(parts))
