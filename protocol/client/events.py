"""The events of a session as the client gives them out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Final, Literal

import msgspec
from msgspec import DecodeError, Struct, ValidationError

from pool.turn import Risk, Usage
from protocol.client.errors import ProtocolViolation
from protocol.client.models import ClientTurn


class ClientEvent(Struct, frozen=True, kw_only=True, tag_field="type", tag=""):
    """Base of all events. `id` is its place in the session's log, a cursor. Deltas have no `at`."""

    terminal: ClassVar[bool] = False

    id: str
    turn_id: str = ""
    session_id: str = ""
    at: datetime | None = None


class TurnQueued(ClientEvent, frozen=True, kw_only=True, tag="turn.queued"):
    """The turn was accepted; `position` turns go before it."""

    position: int = 0


class TurnStarted(ClientEvent, frozen=True, kw_only=True, tag="turn.started"):
    """The turn runs. An attempt above 1 means: forget this turn's text so far."""

    attempt: int = 1


class TextDelta(ClientEvent, frozen=True, kw_only=True, tag="text.delta"):
    """A piece of the answer."""

    text: str


class ReasoningDelta(ClientEvent, frozen=True, kw_only=True, tag="reasoning.delta"):
    """A piece of the model's reasoning; not part of the answer."""

    text: str


class ToolCalled(ClientEvent, frozen=True, kw_only=True, tag="tool.called"):
    """The agent calls a tool."""

    call_id: str
    name: str
    arguments: dict[str, Any] = {}


class ToolReturned(ClientEvent, frozen=True, kw_only=True, tag="tool.returned"):
    """A tool has answered, or failed."""

    call_id: str
    result: Any = None
    is_error: bool = False


class ApprovalRequested(ClientEvent, frozen=True, kw_only=True, tag="approval.requested"):
    """A tool call waits for a human until `expires_at`."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    risk: Risk
    expires_at: datetime


class ApprovalDecided(ClientEvent, frozen=True, kw_only=True, tag="approval.decided"):
    """A human has decided about a tool call."""

    call_id: str
    decision: Literal["approve", "deny"]
    by: str = ""


class UsageReported(ClientEvent, frozen=True, kw_only=True, tag="usage"):
    """The turn's usage so far."""

    usage: Usage


class ModelDecided(ClientEvent, frozen=True, kw_only=True, tag="model.decided"):
    """What was decided about the model that answers; `model` is the one asked now ("": none)."""

    step: str
    model: str = ""
    reason: str = ""


class TurnEnded(ClientEvent, frozen=True, kw_only=True, tag=""):
    """Base of the terminal events: they carry the turn as it ended, without its input."""

    terminal = True
    turn: ClientTurn


class TurnCompleted(TurnEnded, frozen=True, kw_only=True, tag="turn.completed"):
    """The agent has answered."""


class TurnFailed(TurnEnded, frozen=True, kw_only=True, tag="turn.failed"):
    """The turn failed; `turn.error` says why."""


class TurnCancelled(TurnEnded, frozen=True, kw_only=True, tag="turn.cancelled"):
    """The turn was cancelled, or rolled back (`turn.forgotten`)."""


class TurnExpired(TurnEnded, frozen=True, kw_only=True, tag="turn.expired"):
    """The turn's deadline passed."""


class TurnInterrupted(TurnEnded, frozen=True, kw_only=True, tag="turn.interrupted"):
    """The turn was interrupted; what it said is kept."""


class HistoryLost(
    ClientEvent,
    frozen=True,
    kw_only=True,
    tag="history.lost",
    rename={"start": "from", "end": "to"},
):
    """Events from `start` to `end` can no longer be had; reading goes on after this one."""

    start: str
    end: str


class UnknownEvent(ClientEvent, frozen=True, kw_only=True):
    """An event of a kind that this version does not know: its fields as they came."""

    fields: dict[str, Any]


AnyEvent = (
    TurnQueued
    | TurnStarted
    | TextDelta
    | ReasoningDelta
    | ToolCalled
    | ToolReturned
    | ApprovalRequested
    | ApprovalDecided
    | UsageReported
    | ModelDecided
    | TurnCompleted
    | TurnFailed
    | TurnCancelled
    | TurnExpired
    | TurnInterrupted
    | HistoryLost
)
_KNOWN: Final = frozenset(kind.__struct_config__.tag for kind in AnyEvent.__args__)

_event: Final = msgspec.json.Decoder(AnyEvent)
_fields: Final = msgspec.json.Decoder(dict[str, Any])


def decode(data: bytes | msgspec.Raw) -> ClientEvent:
    """The event in a JSON object; `ProtocolViolation` if there is none."""
    try:
        event: ClientEvent = _event.decode(data)
    except ValidationError as error:
        return _unknown(data, error)
    except DecodeError:
        raise ProtocolViolation("an event is not valid JSON") from None
    return event


def _unknown(data: bytes | msgspec.Raw, error: ValidationError) -> UnknownEvent:
    fields = _fields.decode(data) if bytes(data).lstrip().startswith(b"{") else {}
    kind, place = fields.get("type"), fields.get("id")
    if not isinstance(kind, str) or kind in _KNOWN or not isinstance(place, str):
        raise ProtocolViolation(f"an event is not as the protocol says: {error}")
    return UnknownEvent(
        id=place,
        turn_id=str(fields.get("turn_id", "")),
        session_id=str(fields.get("session_id", "")),
        fields=fields,
    )
