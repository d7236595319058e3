"""A session at rest: packed into bytes, which the garbage collector never looks at.

The form is compact and private to the process: what can be told from elsewhere is left out, words
of a fixed set are numbers, and text deltas that follow each other are one text and their lengths.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from pool.errors import PoolError
from pool.events import Cursor
from pool.store.base import Lease, SessionKey
from pool.store.memory_log import EventLog
from pool.store.memory_session import SessionRecord
from pool.store.memory_transcript import KeptState, Transcript
from pool.store.rest_events import EventRow, pack_events, unpack_events
from pool.store.rest_turns import (
    EntryRow,
    TurnRow,
    pack_entry,
    pack_turn,
    unpack_entry,
    unpack_turn,
)
from pool.turn import SessionInfo

# when it expires, when its events are to be dropped, its number
_HEAD: Final = Layout("<ddQ")


class Label(NamedTuple):
    """What is to be known of a session at rest without unpacking it. Times since the epoch."""

    expires_at: float
    events_until: float
    number: int


class InfoRow(Struct, array_like=True):
    """What callers see of a session."""

    agent: str | None
    metadata: dict[str, Any] | None
    ttl_s: float | None
    created_at: float
    updated_at: float
    accepted: int
    end: Cursor


class SessionRow(InfoRow, array_like=True):
    """The whole of it; the first fields are those of `InfoRow`."""

    epochs: tuple[tuple[int, int], ...]
    base: int
    owner: str | None
    turns: list[TurnRow]
    # idempotency key, turn, digest
    keys: list[tuple[str, str, bytes]] | None
    events: list[EventRow]
    entries: list[EntryRow]
    entries_dropped: int
    # agent, format, data, version, how many entries it has seen
    states: list[tuple[str, str, bytes, int, int]] | None


_encode = msgspec.msgpack.Encoder().encode
_decode_info = msgspec.msgpack.Decoder(InfoRow).decode
_decode = msgspec.msgpack.Decoder(SessionRow).decode


class Unpackable(PoolError):
    """The session holds something that has no form in bytes, a tool's own object for example."""


def pack(record: SessionRecord, *, events_until: float) -> bytes:
    """A session without unfinished turns as bytes; `Unpackable` if it cannot be."""
    log, transcript = record.log, record.transcript
    turns = {entry.turn.id: entry.turn for entry in record.turns.values()}
    places = {turn_id: place for place, turn_id in enumerate(turns)}
    row = SessionRow(
        record.agent,
        record.metadata or None,
        record.ttl_s,
        record.created_at,
        record.updated_at,
        record.accepted,
        log.end,
        log.epochs,
        log.base,
        record.lease.owner if record.lease is not None else None,
        [pack_turn(entry) for entry in record.turns.values()],
        [(key, *used) for key, used in record.keys.items()] if record.keys else None,
        pack_events(log.events, turns, places),
        [pack_entry(entry, places) for entry in transcript.entries],
        transcript.dropped,
        [
            (agent, state.format, state.data(), state.version, state.seen)
            for agent, state in transcript.states.items()
        ]
        if transcript.states
        else None,
    )
    try:
        body = _encode(row)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unpackable(f"session {record.key.id} cannot be packed") from error
    return _HEAD.pack(record.expires_at, events_until, record.number) + body


def unpack(packed: bytes, key: SessionKey, name: str) -> SessionRecord:
    """The session that was packed."""
    expires_at, _, number = _HEAD.unpack_from(packed)
    row = _decode(memoryview(packed)[_HEAD.size :])
    entries = [unpack_turn(each, key) for each in row.turns]
    turns = [entry.turn for entry in entries]
    log = EventLog(base=row.base, epochs=row.epochs, end_epoch=row.end.epoch)
    log.restore(unpack_events(row.events, turns, key.id))
    transcript = Transcript(
        entries=[unpack_entry(each, turns) for each in row.entries],
        dropped=row.entries_dropped,
    )
    if row.states is not None:
        transcript.states = {
            agent: KeptState(format_, [data], version, seen)
            for agent, format_, data, version, seen in row.states
        }
    return SessionRecord(
        key,
        name,
        number,
        row.created_at,
        row.updated_at,
        expires_at,
        agent=row.agent,
        metadata=row.metadata,
        ttl_s=row.ttl_s,
        accepted=row.accepted,
        turns={entry.turn.id: entry for entry in entries},
        keys={used: (turn_id, digest) for used, turn_id, digest in row.keys} if row.keys else None,
        log=log,
        transcript=transcript,
        lease=Lease(key, row.owner, row.epochs[-1][0]) if row.owner is not None else None,
    )


def label(packed: bytes) -> Label:
    """What stands on the outside of a packed session."""
    return Label(*_HEAD.unpack_from(packed))


def info(packed: bytes, session_id: str) -> SessionInfo:
    """A packed session as callers see it."""
    row = _decode_info(memoryview(packed)[_HEAD.size :])
    return SessionInfo(
        id=session_id,
        agent=row.agent,
        metadata=row.metadata or {},
        ttl_s=row.ttl_s,
        created_at=row.created_at,
        updated_at=row.updated_at,
        turns=row.accepted,
        cursor=str(row.end),
    )
