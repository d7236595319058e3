"""What the engine knows, as the bytes of the protocol. Pure: no I/O, no state.

Ids are written into JSON as they are: they match `[A-Za-z0-9_-]{1,64}` (`pool.turn.ID_PATTERN`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from pool.events import (
    ApprovalDecided,
    ApprovalRequested,
    Event,
    HistoryLost,
    ModelDecided,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCancelled,
    TurnCompleted,
    TurnEnded,
    TurnExpired,
    TurnFailed,
    TurnInterrupted,
    TurnQueued,
    TurnStarted,
    UsageReported,
)
from pool.turn import Message, PendingCall, SessionInfo, Turn
from protocol import bodies
from protocol.problems import Problem

_encode = msgspec.json.Encoder().encode
_from_timestamp = datetime.fromtimestamp


def when(seconds: float) -> datetime:
    """Seconds since the epoch as a time in UTC, which is written in ISO 8601."""
    return _from_timestamp(seconds, UTC)


def turn_body(turn: Turn, *, with_input: bool = True) -> bodies.TurnBody:
    """The turn as callers see it; terminal events leave its input out."""
    request = turn.request
    ended = turn.finished_at
    # by place, not by name: this is half of the time that a turn's answer takes
    return bodies.TurnBody(
        turn.id,
        turn.session_id,
        turn.agent,
        turn.state,
        turn.output,
        turn.usage,
        [_pending(call) for call in turn.pending] if turn.pending else [],
        turn.attempt,
        turn.queued_s,
        turn.run_s,
        _from_timestamp(turn.created_at, UTC),
        request.metadata,
        request.input if with_input else UNSET,
        UNSET if turn.error is None else turn.error,
        UNSET if ended is None else _from_timestamp(ended, UTC),
        True if turn.forgotten else UNSET,
        UNSET if turn.stop_reason is None else turn.stop_reason,
        turn.marks or UNSET,
    )


def _pending(call: PendingCall) -> bodies.PendingBody:
    return bodies.PendingBody(
        call_id=call.call_id,
        name=call.name,
        arguments=call.arguments,
        risk=call.risk,
        expires_at=when(call.expires_at),
    )


def turn(turn: Turn, with_input: bool = True) -> bytes:
    """The JSON object of a turn."""
    return _encode(turn_body(turn, with_input=with_input))


def session_body(info: SessionInfo) -> bodies.SessionBody:
    """The session as callers see it."""
    return bodies.SessionBody(
        id=info.id,
        session_id=info.id,
        agent=info.agent,
        metadata=info.metadata,
        ttl_s=info.ttl_s,
        created_at=when(info.created_at),
        updated_at=when(info.updated_at),
        turns=info.turns,
        cursor=info.cursor,
    )


def session(info: SessionInfo) -> bytes:
    """The JSON object of a session."""
    return _encode(session_body(info))


def message_body(message: Message) -> bodies.MessageBody:
    """The entry of a transcript as callers see it."""
    return bodies.MessageBody(
        role=message.role,
        content=message.content,
        turn_id=message.turn_id,
        created_at=when(message.created_at),
    )


def message(message: Message) -> bytes:
    """The JSON object of an entry of the transcript."""
    return _encode(message_body(message))


def problem(problem: Problem) -> bytes:
    """The JSON object of a problem."""
    return _encode(problem)


def event(event: Event) -> bytes:
    """The JSON object of an event."""
    return _EVENTS[type(event)](event)


def sse(event: Event) -> bytes:
    """The event as a block of a `text/event-stream`: its id, its type, its JSON object."""
    kind = type(event)
    return b"id: %d-%d\n%b%b\n\n" % (event.epoch, event.seq, _LINES[kind], _EVENTS[kind](event))


def _delta(kind: type[TextDelta] | type[ReasoningDelta]) -> Callable[[Any], bytes]:
    # By hand, for a server spends its life on these: it takes three quarters of a struct's time.
    form = (
        b'{"type":"%b","id":"%%d-%%d","turn_id":"%%b","session_id":"%%b","text":%%b}'
        % kind.type.encode()
    )

    def encode(event: TextDelta | ReasoningDelta) -> bytes:
        return form % (
            event.epoch,
            event.seq,
            event.turn_id.encode(),
            event.session_id.encode(),
            _encode(event.text),
        )

    return encode


def _body(kind: type[bodies.TimedBody], *names: str) -> Callable[[Any], bytes]:
    """Encodes an event whose further fields are taken over as they are."""

    def encode(event: Event) -> bytes:
        more = {name: getattr(event, name) for name in names}
        return _encode(_timed(kind, event, **more))

    return encode


def _ended(kind: type[bodies.TimedBody]) -> Callable[[Any], bytes]:
    def encode(event: TurnEnded) -> bytes:
        return _encode(_timed(kind, event, turn=turn_body(event.turn, with_input=False)))

    return encode


def _requested(event: ApprovalRequested) -> bytes:
    body = _timed(
        bodies.ApprovalRequestedBody,
        event,
        call_id=event.call_id,
        name=event.name,
        arguments=event.arguments,
        risk=event.risk,
        expires_at=when(event.expires_at),
    )
    return _encode(body)


def _lost(event: HistoryLost) -> bytes:
    body = _timed(bodies.HistoryLostBody, event, start=event.lost_from, end=event.lost_to)
    return _encode(body)


def _timed(kind: type[bodies.TimedBody], event: Event, **more: Any) -> bodies.TimedBody:
    return kind(
        id=f"{event.epoch}-{event.seq}",
        turn_id=event.turn_id,
        session_id=event.session_id,
        at=_from_timestamp(event.at, UTC),
        **more,
    )


_EVENTS: dict[type[Event], Callable[[Any], bytes]] = {
    TextDelta: _delta(TextDelta),
    ReasoningDelta: _delta(ReasoningDelta),
    TurnQueued: _body(bodies.TurnQueuedBody, "position"),
    TurnStarted: _body(bodies.TurnStartedBody, "attempt"),
    ToolCalled: _body(bodies.ToolCalledBody, "call_id", "name", "arguments"),
    ToolReturned: _body(bodies.ToolReturnedBody, "call_id", "result", "is_error"),
    ApprovalRequested: _requested,
    ApprovalDecided: _body(bodies.ApprovalDecidedBody, "call_id", "decision", "by"),
    UsageReported: _body(bodies.UsageBody, "usage"),
    ModelDecided: _body(bodies.ModelDecidedBody, "step", "model", "reason"),
    TurnCompleted: _ended(bodies.TurnCompletedBody),
    TurnFailed: _ended(bodies.TurnFailedBody),
    TurnCancelled: _ended(bodies.TurnCancelledBody),
    TurnExpired: _ended(bodies.TurnExpiredBody),
    TurnInterrupted: _ended(bodies.TurnInterruptedBody),
    HistoryLost: _lost,
}

# The middle of an SSE block, from the event's type to its data.
_LINES: dict[type[Event], bytes] = {
    kind: b"event: %b\ndata: " % kind.type.encode() for kind in _EVENTS
}
