"""The shapes of what the server says: one struct a JSON object of the protocol.

The encoders fill them and the OpenAPI document is made from them, so that neither can say what the
other does not. Times are UTC, durations seconds. A field that may be absent is `UNSET` then.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from pool.events import ModelStep
from pool.turn import Mark, Risk, State, TurnError, Usage


class PendingBody(Struct, kw_only=True, gc=False):
    """A tool call that waits for a human until `expires_at`."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    risk: Risk
    expires_at: datetime


class TurnBody(Struct):
    """A turn. `output` is what was said so far; `input` is left out of terminal events."""

    id: str
    session_id: str
    agent: str
    state: State
    output: str
    usage: Usage
    pending: list[PendingBody]
    attempt: int
    queued_s: float
    run_s: float
    created_at: datetime
    metadata: dict[str, Any]
    input: str | UnsetType = UNSET
    error: TurnError | UnsetType = UNSET
    finished_at: datetime | UnsetType = UNSET
    forgotten: bool | UnsetType = UNSET
    stop_reason: str | UnsetType = UNSET
    marks: tuple[Mark, ...] | UnsetType = UNSET


class SessionBody(Struct, kw_only=True):
    """A session. `cursor` is the end of its log, `agent` answers turns that name none."""

    id: str
    session_id: str
    agent: str | None
    metadata: dict[str, Any]
    ttl_s: float | None
    created_at: datetime
    updated_at: datetime
    turns: int
    cursor: str


class MessageBody(Struct, kw_only=True, gc=False):
    """One entry of a session's transcript."""

    role: Literal["user", "assistant"]
    content: str
    turn_id: str
    created_at: datetime


class EventBody(Struct, kw_only=True, tag_field="type", tag="event"):
    """Base of all events. `id` is the cursor `<epoch>-<seq>`: its place in the session's log."""

    id: str
    turn_id: str
    session_id: str


class TimedBody(EventBody, kw_only=True, tag="event"):
    """Base of the events that say when: all but the deltas."""

    at: datetime


class TurnQueuedBody(TimedBody, kw_only=True, tag="turn.queued"):
    """The turn was accepted; `position` turns go before it."""

    position: int


class TurnStartedBody(TimedBody, kw_only=True, tag="turn.started"):
    """An actor runs the turn. An attempt above 1 means: forget this turn's text so far."""

    attempt: int


class TextDeltaBody(EventBody, kw_only=True, tag="text.delta"):
    """A piece of the answer; joined pieces carry the id of the last."""

    text: str


class ReasoningDeltaBody(EventBody, kw_only=True, tag="reasoning.delta"):
    """A piece of the model's reasoning; not part of the output."""

    text: str


class ToolCalledBody(TimedBody, kw_only=True, tag="tool.called"):
    """The agent calls a tool."""

    call_id: str
    name: str
    arguments: dict[str, Any]


class ToolReturnedBody(TimedBody, kw_only=True, tag="tool.returned"):
    """A tool has answered, or failed."""

    call_id: str
    result: Any
    is_error: bool


class ApprovalRequestedBody(TimedBody, kw_only=True, tag="approval.requested"):
    """A tool call waits for a human until `expires_at`."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    risk: Risk
    expires_at: datetime


class ApprovalDecidedBody(TimedBody, kw_only=True, tag="approval.decided"):
    """A human has decided about a tool call."""

    call_id: str
    decision: Literal["approve", "deny"]
    by: str


class UsageBody(TimedBody, kw_only=True, tag="usage"):
    """The turn's usage so far."""

    usage: Usage


class ModelDecidedBody(TimedBody, kw_only=True, tag="model.decided"):
    """What was decided about the model that answers; `model` is the one asked now ("": none)."""

    step: ModelStep
    model: str
    reason: str


class TurnCompletedBody(TimedBody, kw_only=True, tag="turn.completed"):
    """The agent has answered."""

    turn: TurnBody


class TurnFailedBody(TimedBody, kw_only=True, tag="turn.failed"):
    """The turn failed; `turn.error` says why."""

    turn: TurnBody


class TurnCancelledBody(TimedBody, kw_only=True, tag="turn.cancelled"):
    """The turn was cancelled, or rolled back (`turn.forgotten`)."""

    turn: TurnBody


class TurnExpiredBody(TimedBody, kw_only=True, tag="turn.expired"):
    """The turn's deadline passed."""

    turn: TurnBody


class TurnInterruptedBody(TimedBody, kw_only=True, tag="turn.interrupted"):
    """The turn was interrupted; what it said is kept."""

    turn: TurnBody


class HistoryLostBody(
    TimedBody, kw_only=True, tag="history.lost", rename={"start": "from", "end": "to"}
):
    """Events that can no longer be replayed; go on after this event's own id."""

    start: str
    end: str


AnyEvent = (
    TurnQueuedBody
    | TurnStartedBody
    | TextDeltaBody
    | ReasoningDeltaBody
    | ToolCalledBody
    | ToolReturnedBody
    | ApprovalRequestedBody
    | ApprovalDecidedBody
    | UsageBody
    | ModelDecidedBody
    | TurnCompletedBody
    | TurnFailedBody
    | TurnCancelledBody
    | TurnExpiredBody
    | TurnInterruptedBody
    | HistoryLostBody
)
