"""What clients send: one struct a command. Pure.

Two things can be wrong with a frame. It is no command at all: `BadFrame`, which ends the
connection. Or it is a command with a mistake: `BadCommand`, which is answered.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import DecodeError, Meta, Struct, ValidationError

from pool.errors import InvalidRequest
from pool.turn import CallId, Id, TurnRequest
from protocol.decode import MAX_DEPTH, depth, invalid_fields

Ref = Annotated[str, Meta(max_length=128)] | int
CursorText = Annotated[str, Meta(max_length=64)]


class Command(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag=""
):
    """Base of all commands; the answer repeats `ref`."""

    ref: Ref | None = None


class Hello(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hello"):
    """The first frame: who is there, and the sessions to go on reading, each after its cursor."""

    ticket: Annotated[str, Meta(max_length=128)] | None = None
    sessions: dict[Id, CursorText | None] = {}


class AskTurn(
    TurnRequest, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="turn"
):
    """A turn request for a session."""

    session_id: Id
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    ref: Ref | None = None

    def request(self) -> TurnRequest:
        """The turn request alone, as every door hands it to the pool."""
        return TurnRequest(**{name: getattr(self, name) for name in TurnRequest.__struct_fields__})


class Cancel(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cancel"):
    """End a turn early."""

    turn_id: Annotated[str, Meta(max_length=128)]


class Approve(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="approve"):
    """A human's decision about a call that waits for one."""

    turn_id: Annotated[str, Meta(max_length=128)]
    call_id: CallId
    decision: Literal["approve", "deny"]
    reason: Annotated[str, Meta(max_length=4_096)] = ""
    arguments: dict[str, Any] | None = None
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class Subscribe(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="subscribe"):
    """Send the session's events that follow a cursor; without one, from now."""

    session_id: Id
    after: CursorText | None = None


class Unsubscribe(
    Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="unsubscribe"
):
    """Send no more events of the session."""

    session_id: Id


class Ack(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ack"):
    """Everything of the session up to the cursor has been dealt with."""

    session_id: Id
    cursor: CursorText


class Ping(Command, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ping"):
    """Is anybody there?"""


AnyCommand = Hello | AskTurn | Cancel | Approve | Subscribe | Unsubscribe | Ack | Ping


class BadFrame(Exception):
    """The frame is no command: the connection is closed with 4400."""


class BadCommand(Exception):
    """A command with a mistake, which `problem` names; `kind` is its type, `ref` its ref."""

    def __init__(self, problem: InvalidRequest, kind: str, ref: Ref | None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.kind = kind
        self.ref = ref


class _Head(Struct, frozen=True):
    # The least that makes a frame a command; `ref` may be anything here.
    type: str
    ref: Any = None


_command: Final[msgspec.json.Decoder[AnyCommand]] = msgspec.json.Decoder(AnyCommand)
_head: Final = msgspec.json.Decoder(_Head)


def decode(text: str) -> AnyCommand:
    """The command in a text frame. `BadFrame` or `BadCommand` if there is none."""
    try:
        command = _command.decode(text)
    except ValidationError as error:
        raise _mistake(text, error) from None
    except (DecodeError, UnicodeError, RecursionError):
        raise _unreadable(text) from None
    # Counting brackets costs nothing and clears all but the odd frame.
    if text.count("{") + text.count("[") > MAX_DEPTH and depth(command) > MAX_DEPTH:
        detail = f"the frame is nested deeper than {MAX_DEPTH} levels"
        raise BadCommand(InvalidRequest(detail), _kind(command), command.ref)
    return command


def _kind(command: AnyCommand) -> str:
    return str(command.__struct_config__.tag)


def _unreadable(text: str) -> Exception:
    # A lone surrogate (half an emoji, cut by a browser) is JSON all the same: it costs the command,
    # not the connection with all its sessions.
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return BadFrame("the frame is not a JSON object")
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return BadFrame("the frame is not a JSON object with a type")
    problem = InvalidRequest("the frame holds text that is no Unicode, such as half an emoji")
    return BadCommand(problem, value["type"], _repeatable(value.get("ref")))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _repeatable(ref: object) -> Ref | None:
    if type(ref) is int or (type(ref) is str and not any("\ud800" <= c <= "\udfff" for c in ref)):
        return ref if len(str(ref)) <= 128 else None
    return None


def _mistake(text: str, error: ValidationError) -> Exception:
    try:
        head = _head.decode(text)
    except (DecodeError, UnicodeError, RecursionError):
        return BadFrame("the frame is not a JSON object with a type")
    return BadCommand(invalid_fields(error, "the frame"), head.type, _repeatable(head.ref))
