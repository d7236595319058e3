"""A batch of events as bytes: what one writer added to a session's log in one step.

Epoch and places are told by where the batch is kept. Deltas of one turn that follow each other are
one text and the length of each. A terminal event does not repeat its turn, which has a record of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct

from pool.errors import Internal
from pool.events import (
    ApprovalDecided,
    ApprovalRequested,
    Event,
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
from pool.store.codec_plain import decode_plain, encode_plain, encode_row
from pool.store.codec_turns import usage_of, usage_row
from pool.turn import Turn

# What happened (a place in `KINDS`), to which turn (a place among the batch's turns), and:
# - deltas: their text; the length of each if they are several (else None); their time if they have
#   one. The last two are left out where they can be.
# - all others: their time, and the fields of their kind (see `FIELDS`).
_Row = Sequence[Any]

# A kind is stored as its place here: kinds are only ever added, at the end.
KINDS: Final[tuple[type[Event], ...]] = (
    TurnQueued,
    TurnStarted,
    TextDelta,
    ReasoningDelta,
    ToolCalled,
    ToolReturned,
    ApprovalRequested,
    ApprovalDecided,
    UsageReported,
    TurnCompleted,
    TurnFailed,
    TurnCancelled,
    TurnExpired,
    TurnInterrupted,
    ModelDecided,
)
_PLACES: Final = {kind: place for place, kind in enumerate(KINDS)}
_DELTAS: Final = frozenset({TextDelta, ReasoningDelta})
_ENDINGS: Final = frozenset(kind for kind in KINDS if issubclass(kind, TurnEnded))
# The fields of a kind in the order in which they are stored; new ones have defaults and come last.
FIELDS: Final[dict[type[Event], tuple[str, ...]]] = {
    TurnQueued: ("position",),
    TurnStarted: ("attempt",),
    ToolCalled: ("call_id", "name", "arguments"),
    ToolReturned: ("call_id", "result", "is_error"),
    ApprovalRequested: ("call_id", "name", "arguments", "risk", "expires_at"),
    ApprovalDecided: ("call_id", "decision", "by"),
    UsageReported: ("usage",),
    ModelDecided: ("step", "model", "reason"),
}
# how a field is written and read that is not a word or a number
_WRITTEN: Final[dict[str, Callable[[Any], object]]] = {
    "arguments": partial(encode_plain, what="arguments"),
    "result": partial(encode_plain, what="result"),
    "usage": usage_row,
}
_READ: Final[dict[str, Callable[[Any], object]]] = {
    "arguments": decode_plain,
    "result": decode_plain,
    "usage": usage_of,
}


class _Batch(Struct, array_like=True):
    turn_ids: list[str]
    # which of the turns ended in the batch
    ended: list[int]
    rows: list[list[Any]]


class _Head(Struct, array_like=True):
    turn_ids: list[str]
    ended: list[int]


_decode: Final = msgspec.msgpack.Decoder(_Batch).decode
_decode_head: Final = msgspec.msgpack.Decoder(_Head).decode


def encode_events(events: Sequence[Event]) -> bytes:
    """Events of one session and one epoch that follow each other."""
    turns: dict[str, int] = {}
    ended: list[int] = []
    rows: list[_Row] = []
    place, count = 0, len(events)
    while place < count:
        event = events[place]
        kind = type(event)
        whose = turns.setdefault(event.turn_id, len(turns))
        if kind in _DELTAS:
            end = _run_end(events, place)
            rows.append(_delta_row(event, whose, events[place:end]))
            place = end
            continue
        if kind in _ENDINGS:
            ended.append(whose)
            rows.append((_PLACES[kind], whose, event.at))
        else:
            rows.append(_row(kind, event, whose))
        place += 1
    return encode_row((list(turns), ended, rows))


def decode_events(
    data: bytes, *, epoch: int, last: int, session_id: str, turns: Mapping[str, Turn]
) -> list[Event]:
    """The events of a batch whose last has the place `last`. `turns` has those of `ended_in`."""
    batch = _decode(data)
    events: list[Event] = []
    for row in batch.rows:
        kind: Any = KINDS[row[0]]
        turn_id = batch.turn_ids[row[1]]
        if kind in _DELTAS:
            events += _deltas(kind, row, turn_id)
        elif kind in _ENDINGS:
            events.append(kind(turn=turns[turn_id], at=row[2], turn_id=turn_id))
        else:
            events.append(_event(kind, row, turn_id))
    for seq, event in enumerate(events, last - len(events) + 1):
        event.epoch = epoch
        event.seq = seq
        event.session_id = session_id
    return events


def ended_in(data: bytes) -> Sequence[str]:
    """The ids of the turns whose terminal events are in the batch."""
    head = _decode_head(data)
    return [head.turn_ids[place] for place in head.ended]


def turns_in(data: bytes) -> Sequence[str]:
    """The ids of the turns of which the batch has events."""
    return _decode_head(data).turn_ids


def _run_end(events: Sequence[Event], start: int) -> int:
    first = events[start]
    kind, turn_id, at = type(first), first.turn_id, first.at
    for end in range(start + 1, len(events)):
        event = events[end]
        if type(event) is not kind or event.turn_id != turn_id or event.at != at:
            return end
    return len(events)


def _delta_row(first: Event, whose: int, run: Sequence[Any]) -> _Row:
    place = _PLACES[type(first)]
    if len(run) == 1 and not first.at:
        return (place, whose, run[0].text)
    texts = [delta.text for delta in run]
    lengths = [len(text) for text in texts] if len(texts) > 1 else None
    row = (place, whose, "".join(texts), lengths)
    return (*row, first.at) if first.at else row


def _deltas(kind: Any, row: _Row, turn_id: str) -> Iterator[Event]:
    text: str = row[2]
    if len(row) == 3:
        yield kind(text=text, turn_id=turn_id)
        return
    at = row[4] if len(row) > 4 else 0.0
    end = 0
    for length in row[3] or (len(text),):
        start, end = end, end + length
        yield kind(text=text[start:end], at=at, turn_id=turn_id)


def _row(kind: type[Event], event: Event, whose: int) -> _Row:
    if kind not in FIELDS:
        raise Internal(f"{event.type} is told to readers; no log keeps it")
    row: list[object] = [_PLACES[kind], whose, event.at]
    for name in FIELDS[kind]:
        value = getattr(event, name)
        row.append(_WRITTEN[name](value) if name in _WRITTEN else value)
    return row


def _event(kind: type[Event], row: _Row, turn_id: str) -> Event:
    # a field that was not known when the row was written has its default
    fields: dict[str, Any] = {
        name: _READ[name](value) if name in _READ else value
        for name, value in zip(FIELDS[kind], row[3:], strict=False)
    }
    return kind(at=row[2], turn_id=turn_id, **fields)
