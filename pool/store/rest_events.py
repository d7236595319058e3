"""The packed form of events.

Epochs and places are told by the log; text deltas that follow each other are one text and the
length of each, so that any cursor between them can still be served.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import convert

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
from pool.turn import Turn

# What happened (a place in `_KINDS`), in which turn (the place of its record, or the id of one
# whose record is gone), when (see `_when`), and the fields of its kind.
# Deltas: kind, turn, text (None: the turn's whole output), lengths.
EventRow = list[Any]

_KINDS: Final[tuple[type[Event], ...]] = (
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
    HistoryLost,
    ModelDecided,
)
_PLACES: Final = {kind: place for place, kind in enumerate(_KINDS)}
_FIELDS: Final = {
    kind: tuple(name for name in kind.__struct_fields__ if name not in Event.__struct_fields__)
    for kind in _KINDS
}
_Delta = TextDelta | ReasoningDelta


def pack_events(
    events: Sequence[Event], turns: Mapping[str, Turn], places: Mapping[str, int]
) -> list[EventRow]:
    """Events as rows: one for each, but for a run of deltas."""
    rows: list[EventRow] = []
    run: list[_Delta] = []
    for event in events:
        delta = event if isinstance(event, _Delta) and not event.at else None
        if run and (delta is None or not _follows(delta, run[0])):
            rows.append(_pack_deltas(run, turns, places))
            run = []
        if delta is None:
            rows.append(_pack_event(event, turns, places))
        else:
            run.append(delta)
    if run:
        rows.append(_pack_deltas(run, turns, places))
    return rows


def unpack_events(
    rows: Sequence[EventRow], turns: Sequence[Turn], session_id: str
) -> Iterator[Event]:
    """The events of rows, without their epochs and places."""
    for row in rows:
        kind, whose = _KINDS[row[0]], row[1]
        turn = turns[whose] if isinstance(whose, int) else None
        for event in _unpack_row(kind, row, turn):
            event.turn_id = whose if turn is None else turn.id
            event.session_id = session_id
            yield event


def _follows(delta: _Delta, first: _Delta) -> bool:
    return type(delta) is type(first) and delta.turn_id == first.turn_id


def _pack_deltas(
    run: Sequence[_Delta], turns: Mapping[str, Turn], places: Mapping[str, int]
) -> EventRow:
    turn_id = run[0].turn_id
    text = "".join(delta.text for delta in run)
    turn = turns.get(turn_id)
    known = turn is not None and turn.output == text
    return [
        _PLACES[type(run[0])],
        places.get(turn_id, turn_id),
        None if known else text,
        [len(delta.text) for delta in run],
    ]


def _pack_event(event: Event, turns: Mapping[str, Turn], places: Mapping[str, int]) -> EventRow:
    kind = type(event)
    turn = turns.get(event.turn_id)
    row = [_PLACES[kind], places.get(event.turn_id, event.turn_id), _when(event.at, turn)]
    if not (isinstance(event, TurnEnded) and event.turn is turn):
        row += [getattr(event, name) for name in _FIELDS[kind]]
    return row


def _unpack_row(kind: type[Event], row: EventRow, turn: Turn | None) -> Iterator[Event]:
    if issubclass(kind, _Delta) and isinstance(row[3], list):
        text = turn.output if turn is not None and row[2] is None else row[2]
        yield from _unpack_deltas(kind, text, row[3])
    elif issubclass(kind, TurnEnded) and turn is not None and len(row) == 3:
        yield kind(turn=turn, at=_at(row[2], turn))
    else:
        named = dict(zip(_FIELDS[kind], row[3:], strict=True))
        yield convert({"type": kind.type, "at": _at(row[2], turn), **named}, kind)


def _when(at: float, turn: Turn | None) -> float | bool | None:
    """None: an event without a time. False: the turn's beginning. True: its end."""
    if not at:
        return None
    if turn is not None and at in (turn.created_at, turn.finished_at):
        return at == turn.finished_at
    return at


def _at(when: float | bool | None, turn: Turn | None) -> float:
    if isinstance(when, bool) and turn is not None:
        when = turn.finished_at if when else turn.created_at
    return when or 0.0


def _unpack_deltas(kind: type[_Delta], text: str, lengths: Sequence[int]) -> Iterator[Event]:
    end = 0
    for length in lengths:
        start, end = end, end + length
        yield kind(text=text[start:end])
