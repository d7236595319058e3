"""The packed form of turns and of what they said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from msgspec import Struct, convert
from msgspec.structs import astuple

from pool.store.base import SessionKey
from pool.store.memory_session import TurnEntry
from pool.store.memory_transcript import Entry
from pool.store.rest_words import Word, Words
from pool.turn import (
    Complexity,
    DecidedCall,
    IfBusy,
    Mark,
    Message,
    OnDisconnect,
    PendingCall,
    Priority,
    State,
    Turn,
    TurnError,
    TurnRequest,
    Usage,
    Webhook,
    messages,
)

_STATES: Final[tuple[State, ...]] = get_args(State)
_PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)
_IF_BUSY: Final[tuple[IfBusy, ...]] = get_args(IfBusy)
_ON_DISCONNECT: Final[tuple[OnDisconnect, ...]] = get_args(OnDisconnect)
_NO_USAGE: Final = Usage()


class RareRow(Struct, array_like=True):
    """What few turns have."""

    error: TurnError | None
    pending: tuple[PendingCall, ...]
    forgotten: bool
    stop_reason: str | None
    webhook: Webhook | None
    decided: tuple[DecidedCall, ...]
    resumes: bool
    complexity: Complexity | None = None
    marks: tuple[Mark, ...] = ()


class UsageRow(Struct, array_like=True):
    """What a turn used."""

    input_tokens: int
    output_tokens: int
    requests: int
    tool_calls: int
    cost_usd: float | None
    models: tuple[str, ...]


class TurnRow(Struct, array_like=True):
    """One turn. Words of a fixed set are their places in it."""

    id: str
    user: Word
    agent: Word
    # True: the same as the agent that answered
    asked_agent: str | bool | None
    input: str
    output: str
    deadline_s: float
    priority: int
    if_busy: int
    on_disconnect: int
    metadata: dict[str, Any] | None
    state: int
    attempt: int
    queued_s: float
    run_s: float
    created_at: float
    finished_at: float | None
    # its first event lies behind this place
    after: int
    roles: list[Word]
    usage: UsageRow | None
    rare: RareRow | None


# The place of its turn's record; or of a turn whose record is gone: its id, and of each message
# whether the user said it, its text and its time.
EntryRow = int | tuple[str, list[tuple[bool, str, float]]]


def pack_turn(entry: TurnEntry, words: Words) -> TurnRow:
    """An ended turn as a row."""
    turn = entry.turn
    request = turn.request
    usage = turn.usage
    return TurnRow(
        turn.id,
        words.write(turn.user),
        words.write(turn.agent),
        True if request.agent == turn.agent else request.agent,
        request.input,
        turn.output,
        _short(request.deadline_s),
        _PRIORITIES.index(request.priority),
        _IF_BUSY.index(request.if_busy),
        _ON_DISCONNECT.index(request.on_disconnect),
        request.metadata or None,
        _STATES.index(turn.state),
        turn.attempt,
        turn.queued_s,
        turn.run_s,
        turn.created_at,
        turn.finished_at,
        entry.after,
        [words.write(role) for role in turn.roles],
        None if usage == _NO_USAGE else convert(usage, UsageRow, from_attributes=True),
        _pack_rare(turn),
    )


def unpack_turn(row: TurnRow, key: SessionKey, words: Words) -> TurnEntry:
    """The turn of a row."""
    agent = words.read(row.agent)
    request = TurnRequest(
        input=row.input,
        agent=agent if isinstance(row.asked_agent, bool) else row.asked_agent,
        deadline_s=row.deadline_s,
        priority=_PRIORITIES[row.priority],
        if_busy=_IF_BUSY[row.if_busy],
        on_disconnect=_ON_DISCONNECT[row.on_disconnect],
        webhook=row.rare.webhook if row.rare is not None else None,
        metadata=row.metadata or {},
        complexity=row.rare.complexity if row.rare is not None else None,
    )
    turn = Turn(
        id=row.id,
        tenant=key.tenant,
        user=words.read(row.user),
        session_id=key.id,
        agent=agent,
        request=request,
        state=_STATES[row.state],
        output=row.output,
        attempt=row.attempt,
        queued_s=row.queued_s,
        run_s=row.run_s,
        created_at=row.created_at,
        finished_at=row.finished_at,
        roles=tuple(words.read(role) for role in row.roles),
    )
    if row.usage is not None:
        turn.usage = convert(row.usage, Usage, from_attributes=True)
    if row.rare is not None:
        turn.error = row.rare.error
        turn.pending = row.rare.pending
        turn.forgotten = row.rare.forgotten
        turn.stop_reason = row.rare.stop_reason
        turn.decided = row.rare.decided
        turn.resumes = row.rare.resumes
        turn.marks = row.rare.marks
    return TurnEntry(turn, row.after, ended=True)


def pack_entry(entry: Entry, places: Mapping[str, int]) -> EntryRow:
    """An entry of the transcript as a row."""
    if isinstance(entry, Turn):
        place = places.get(entry.id)
        if place is not None:
            return place
        entry = messages(entry)
    return entry[0].turn_id, [
        (each.role == "user", each.content, each.created_at) for each in entry
    ]


def unpack_entry(row: EntryRow, turns: Sequence[Turn]) -> Entry:
    """The entry of a row."""
    if isinstance(row, int):
        return turns[row]
    turn_id, parts = row
    return tuple(
        Message("user" if asked else "assistant", content, turn_id, at)
        for asked, content, at in parts
    )


def _pack_rare(turn: Turn) -> RareRow | None:
    row = RareRow(
        turn.error,
        turn.pending,
        turn.forgotten,
        turn.stop_reason,
        turn.request.webhook,
        turn.decided,
        turn.resumes,
        turn.request.complexity,
        turn.marks,
    )
    return row if any(astuple(row)) else None


def _short(seconds: float) -> float:
    # a whole number takes fewer bytes, and is read back as the same
    return int(seconds) if seconds == int(seconds) else seconds
