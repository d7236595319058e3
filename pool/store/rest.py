"""A session at rest: packed into bytes, which the garbage collector never looks at.

The form is compact and private to the process: what can be told from elsewhere is left out, words
of a fixed set are numbers, and text deltas that follow each other are one text and their lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from struct import Struct as Layout
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from pool.errors import PoolError
from pool.store.base import Lease, SessionKey
from pool.store.memory_limits import MemoryLimits
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
from pool.store.rest_words import Word, Words
from pool.turn import SessionInfo

# when it was last used, its number with two marks
_HEAD: Final = Layout("<dQ")
_HAS_EVENTS: Final = 1
_HAS_OWN_TTL: Final = 2


class Label(NamedTuple):
    """What is to be known of a session at rest without unpacking it. Times since the epoch."""

    expires_at: float
    # when its events are to be dropped
    events_until: float


class InfoRow(Struct, array_like=True):
    """What callers see of a session."""

    ttl_s: float | None
    agent: str | None
    metadata: dict[str, Any] | None
    created_at: float
    accepted: int
    epochs: tuple[tuple[int, int], ...]
    # the epoch of the newest event, if it is not the newest epoch
    end_epoch: int | None
    seq: int


class SessionRow(InfoRow, array_like=True):
    """The whole of it; the first fields are those of `InfoRow`."""

    base: int
    owner: Word | None
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


class Packer:
    """Packs and unpacks the sessions of one store. `limits` say how long they live."""

    def __init__(self, limits: MemoryLimits) -> None:
        self._limits = limits
        self._words = Words()

    def pack(self, record: SessionRecord) -> bytes:
        """A session without unfinished turns as bytes; `Unpackable` if it cannot be."""
        marks = (_HAS_EVENTS if record.log.events else 0) | (_HAS_OWN_TTL if record.ttl_s else 0)
        try:
            body = _encode(self._row(record))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Unpackable(f"session {record.key.id} cannot be packed") from error
        return _HEAD.pack(record.updated_at, record.number << 2 | marks) + body

    def unpack(self, packed: bytes, key: SessionKey, name: str) -> SessionRecord:
        """The session that was packed."""
        updated_at, number = _HEAD.unpack_from(packed)
        row = _decode(memoryview(packed)[_HEAD.size :])
        entries = [unpack_turn(each, key, self._words) for each in row.turns]
        turns = [entry.turn for entry in entries]
        log = _log(row, row.base)
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
        record = SessionRecord(
            key,
            name,
            number >> 2,
            row.created_at,
            updated_at,
            updated_at + (row.ttl_s or self._limits.session_ttl_s),
            agent=row.agent,
            metadata=row.metadata,
            ttl_s=row.ttl_s,
            accepted=row.accepted,
            turns={entry.turn.id: entry for entry in entries},
            log=log,
            transcript=transcript,
        )
        if row.keys is not None:
            record.keys = {used: (turn_id, digest) for used, turn_id, digest in row.keys}
        if row.owner is not None:
            record.lease = Lease(key, self._words.read(row.owner), row.epochs[-1][0])
        return record

    def label(self, packed: bytes) -> Label:
        """What stands on the outside of a packed session."""
        updated_at, marked = _HEAD.unpack_from(packed)
        ttl_s = self._limits.session_ttl_s
        if marked & _HAS_OWN_TTL:
            ttl_s = _decode_info(memoryview(packed)[_HEAD.size :]).ttl_s or ttl_s
        until = updated_at + self._limits.events_ttl_s if marked & _HAS_EVENTS else inf
        return Label(updated_at + ttl_s, until)

    def info(self, packed: bytes, session_id: str) -> SessionInfo:
        """A packed session as callers see it."""
        row = _decode_info(memoryview(packed)[_HEAD.size :])
        return SessionInfo(
            id=session_id,
            agent=row.agent,
            metadata=row.metadata or {},
            ttl_s=row.ttl_s,
            created_at=row.created_at,
            updated_at=_HEAD.unpack_from(packed)[0],
            turns=row.accepted,
            cursor=str(_log(row, row.seq).end),
        )

    def _row(self, record: SessionRecord) -> SessionRow:
        log, transcript = record.log, record.transcript
        turns = {entry.turn.id: entry.turn for entry in record.turns.values()}
        places = {turn_id: place for place, turn_id in enumerate(turns)}
        newest = log.epochs[-1][0] if log.epochs else 0
        return SessionRow(
            record.ttl_s,
            record.agent,
            record.metadata or None,
            record.created_at,
            record.accepted,
            log.epochs,
            log.end_epoch if log.end_epoch != newest else None,
            log.seq,
            log.base,
            self._words.write(record.lease.owner) if record.lease is not None else None,
            [pack_turn(entry, self._words) for entry in record.turns.values()],
            [(key, *used) for key, used in record.keys.items()] if record.keys else None,
            pack_events(log.events, turns, places),
            [pack_entry(entry, places) for entry in transcript.entries],
            transcript.dropped,
            _states(transcript.states) if transcript.states else None,
        )


def _states(states: Mapping[str, KeptState]) -> list[tuple[str, str, bytes, int, int]]:
    return [
        (agent, state.format, state.data(), state.version, state.seen)
        for agent, state in states.items()
    ]


def _log(row: InfoRow, base: int) -> EventLog:
    newest = row.epochs[-1][0] if row.epochs else 0
    end_epoch = newest if row.end_epoch is None else row.end_epoch
    return EventLog(base=base, epochs=row.epochs, end_epoch=end_epoch)
