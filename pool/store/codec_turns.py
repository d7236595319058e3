"""The record of a turn as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from pool.store.codec_plain import decode_plain, encode_plain, encode_row
from pool.turn import (
    Complexity,
    DecidedCall,
    IfBusy,
    Mark,
    OnDisconnect,
    PendingCall,
    Priority,
    State,
    Turn,
    TurnError,
    TurnRequest,
    Usage,
    Webhook,
)

# A word is stored as its place here: words are only ever added, at the end.
STATES: Final[tuple[State, ...]] = (
    "queued",
    "running",
    "waiting",
    "completed",
    "failed",
    "cancelled",
    "expired",
    "interrupted",
)
PRIORITIES: Final[tuple[Priority, ...]] = ("interactive", "default", "batch")
IF_BUSY: Final[tuple[IfBusy, ...]] = ("queue", "reject", "interrupt", "rollback")
ON_DISCONNECT: Final[tuple[OnDisconnect, ...]] = ("continue", "cancel")

_state_place: Final = {word: place for place, word in enumerate(STATES)}
_priority_place: Final = {word: place for place, word in enumerate(PRIORITIES)}
_if_busy_place: Final = {word: place for place, word in enumerate(IF_BUSY)}
_on_disconnect_place: Final = {word: place for place, word in enumerate(ON_DISCONNECT)}


class _TurnRow(Struct, array_like=True, gc=False):
    id: str
    tenant: str
    user: str
    session_id: str
    agent: str
    # True: the same as the agent that answers
    asked_agent: str | bool | None
    input: str
    output: str
    state: int
    attempt: int
    queued_s: float
    run_s: float
    created_at: float
    finished_at: float | None
    # a whole number stays one: that is how callers wrote it
    deadline_s: int | float
    priority: int
    if_busy: int
    on_disconnect: int
    roles: tuple[str, ...]
    # what follows is left out where all of it is as here
    usage: tuple[Any, ...] | None = None
    metadata: bytes | None = None
    webhook_url: str | None = None
    error: tuple[str, str, bool] | None = None
    # pending and decided calls
    calls: bytes | None = None
    forgotten: bool = False
    stop_reason: str | None = None
    resumes: bool = False
    at: str = ""
    complexity: Complexity | None = None
    marks: tuple[Mark, ...] = ()
    kept_usage: tuple[Any, ...] | None = None


class _Calls(Struct, array_like=True):
    pending: tuple[PendingCall, ...]
    decided: tuple[DecidedCall, ...]


_decode: Final = msgspec.msgpack.Decoder(_TurnRow).decode
_decode_calls: Final = msgspec.json.Decoder(_Calls).decode
_NOTHING_USED: Final = Usage()


def encode_turn(turn: Turn) -> bytes:
    """The whole record; `InvalidRequest` if its metadata is not plain data."""
    request = turn.request
    agent = turn.agent
    row: tuple[object, ...] = (
        turn.id,
        turn.tenant,
        turn.user,
        turn.session_id,
        agent,
        request.agent == agent or request.agent,
        request.input,
        turn.output,
        _state_place[turn.state],
        turn.attempt,
        turn.queued_s,
        turn.run_s,
        turn.created_at,
        turn.finished_at,
        request.deadline_s,
        _priority_place[request.priority],
        _if_busy_place[request.if_busy],
        _on_disconnect_place[request.on_disconnect],
        turn.roles,
    )
    usage = turn.usage
    used = None if usage == _NOTHING_USED else usage_row(usage)
    if _has_more(turn):
        row = (*row, used, *_more(turn))
    elif used is not None:
        row = (*row, used)
    return encode_row(row)


def decode_turn(data: bytes) -> Turn:
    """The record that was encoded."""
    row = _decode(data)
    agent = row.agent
    asked = row.asked_agent
    turn = Turn(
        id=row.id,
        tenant=row.tenant,
        user=row.user,
        session_id=row.session_id,
        agent=agent,
        request=TurnRequest(
            input=row.input,
            agent=agent if isinstance(asked, bool) else asked,
            deadline_s=row.deadline_s,
            priority=PRIORITIES[row.priority],
            if_busy=IF_BUSY[row.if_busy],
            on_disconnect=ON_DISCONNECT[row.on_disconnect],
            webhook=None if row.webhook_url is None else Webhook(row.webhook_url),
            metadata={} if row.metadata is None else decode_plain(row.metadata),
            complexity=row.complexity,
        ),
        state=STATES[row.state],
        output=row.output,
        attempt=row.attempt,
        queued_s=row.queued_s,
        run_s=row.run_s,
        created_at=row.created_at,
        finished_at=row.finished_at,
        forgotten=row.forgotten,
        stop_reason=row.stop_reason,
        roles=row.roles,
        resumes=row.resumes,
        at=row.at,
        marks=row.marks,
    )
    if row.usage is not None:
        turn.usage = usage_of(row.usage)
    if row.kept_usage is not None:
        turn.kept_usage = usage_of(row.kept_usage)
    if row.error is not None:
        turn.error = TurnError(*row.error)
    if row.calls is not None:
        calls = _decode_calls(row.calls)
        turn.pending, turn.decided = calls.pending, calls.decided
    return turn


def _has_more(turn: Turn) -> bool:
    return bool(
        turn.request.metadata
        or turn.request.webhook
        or turn.error
        or turn.pending
        or turn.decided
        or turn.forgotten
        or turn.stop_reason is not None
        or turn.resumes
        or turn.at
        or turn.request.complexity
        or turn.marks
        or turn.kept_usage
    )


def _more(turn: Turn) -> tuple[object, ...]:
    request, error = turn.request, turn.error
    calls = turn.pending or turn.decided
    return (
        encode_plain(request.metadata, "metadata") if request.metadata else None,
        None if request.webhook is None else request.webhook.url,
        None if error is None else (error.code, error.detail, error.retryable),
        encode_plain(_Calls(turn.pending, turn.decided), "arguments") if calls else None,
        turn.forgotten,
        turn.stop_reason,
        turn.resumes,
        turn.at,
        request.complexity,
        turn.marks,
        None if turn.kept_usage is None else usage_row(turn.kept_usage),
    )


def usage_row(usage: Usage) -> tuple[object, ...]:
    """What a turn used, as a row of its fields."""
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.requests,
        usage.tool_calls,
        usage.cost_usd,
        usage.models,
    )


def usage_of(row: Sequence[Any]) -> Usage:
    """The usage of such a row."""
    put_in, put_out, requests, tool_calls, cost_usd, models = row[:6]
    return Usage(put_in, put_out, requests, tool_calls, cost_usd, tuple(models))
