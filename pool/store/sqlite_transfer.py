"""Sessions that are carried into a SQLite store, or out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from pool.errors import DeadLetter
from pool.events import Event
from pool.store import sqlite_log, sqlite_said
from pool.store.codec import decode_turn, encode_events, encode_said, encode_turn
from pool.store.lease import SessionKey
from pool.store.listing import place_of
from pool.store.sqlite_batch import Batch, name_of
from pool.store.sqlite_find import turn_by_id
from pool.store.sqlite_record import SessionRecord, Unfinished
from pool.store.sqlite_rows import Reading
from pool.store.sqlite_schema import COUNT_MAX
from pool.store.sqlite_sessions import metadata_of
from pool.store.sqlite_state import carry_state, data_of
from pool.store.sqlite_turns import offer, put_dead_letter, put_key
from pool.store.transfer import CarriedKey, CarriedSession, CarriedState

# How many events are kept together.
_PART: Final = 256


def all_sessions(
    reading: Reading, after: str | None, limit: int
) -> tuple[list[SessionKey], str | None]:
    """See `Transfer.all_sessions`. In the order of their making."""
    found: list[SessionRecord] = []
    rows = reading.db.execute(
        "SELECT record FROM sessions WHERE num > ? ORDER BY num", (place_of(after),)
    )
    for (data,) in rows:
        record = reading.living(data)
        if record is not None:
            found.append(record)
        if len(found) > limit:
            break
    more = len(found) > limit
    return [each.key for each in found[:limit]], str(found[limit - 1].num) if more else None


def carry_out(reading: Reading, key: SessionKey) -> CarriedSession | None:
    """See `Transfer.carry_out`."""
    record = reading.session(key)
    if record is None:
        return None
    turns = reading.db.execute(
        "SELECT record, after FROM turns WHERE place BETWEEN ? AND ? ORDER BY place",
        (record.place(0), record.place(COUNT_MAX)),
    ).fetchall()
    keys = reading.db.execute(
        "SELECT keys.key, turns.id, keys.digest FROM keys "
        "JOIN turns ON turns.place = (keys.session << 32 | keys.turn) WHERE keys.session = ?",
        (record.num,),
    )
    said = sqlite_said.entries(reading.db, record, 0, record.entries)
    return CarriedSession(
        key=key,
        info=record.info,
        turns=[decode_turn(data) for data, _ in turns],
        starts=[after for _, after in turns],
        keys=[CarriedKey(*row) for row in keys],
        said=[messages for _, messages in said],
        states=[_state(reading, record, agent) for agent in record.states],
        events=_events(reading, record),
        end=record.end,
    )


def carry_in(batch: Batch, session: CarriedSession) -> bool:
    """See `Transfer.carry_in`."""
    if batch.session(name_of(session.key)) is not None:
        return False
    # what cannot be encoded is found out before anything is changed
    metadata = metadata_of(session.info)
    turns = [encode_turn(turn) for turn in session.turns]
    said = [encode_said(messages) for messages in session.said]
    events = [(part[-1], encode_events(part)) for part in _parts(session.events)]

    record = batch.make(session.key)
    _fill(record, session, metadata)
    for last, data in events:
        batch.put_events(record.place(last.seq), last.epoch, data)
    _put_turns(batch, record, session, turns)
    for number, data in enumerate(said):
        batch.put_said(record.place(number), None, data)
    for state in session.states:
        carry_state(batch, record, state)
    if record.line:
        offer(batch, record)
    return True


def forget_dead_letter(batch: Batch, turn_id: str) -> bool:
    """See `Transfer.forget_dead_letter`."""
    batch.settle()
    row = turn_by_id(batch.db, turn_id)
    if row is None:
        return False
    found = batch.db.execute("DELETE FROM dead_letters WHERE turn = ?", (row.place,))
    return found.rowcount > 0


def _fill(record: SessionRecord, session: CarriedSession, metadata: bytes | None) -> None:
    info, end = session.info, session.end
    record.agent, record.metadata, record.ttl_s = info.agent, metadata, info.ttl_s
    record.created_at, record.updated_at = info.created_at, info.updated_at
    record.accepted = max(info.turns, len(session.turns))
    record.dropped = record.accepted - len(session.turns)
    # nobody's; the next holder's epoch is later
    record.epoch, record.end_epoch, record.end_seq = end.epoch, end.epoch, end.seq
    record.base = end.seq - len(session.events)
    begun = {event.epoch: event.seq for event in reversed(session.events)}
    if end.epoch:
        begun.setdefault(end.epoch, end.seq + 1)
    record.epochs = sorted(begun.items())
    record.entries = len(session.said)


def _put_turns(
    batch: Batch, record: SessionRecord, session: CarriedSession, turns: Sequence[bytes]
) -> None:
    # a session that was deleted here, and is not cleared away yet, may still have them
    batch.db.executemany(
        "DELETE FROM turns WHERE substr(id, 2) = ? AND +id = ? "
        "AND place >> 32 NOT IN (SELECT num FROM sessions)",
        [(turn.id[1:], turn.id) for turn in session.turns],
    )
    last = {event.turn_id: event.seq for event in session.events}
    numbers = {}
    rows = zip(session.turns, session.starts, turns, strict=True)
    for number, (turn, start, data) in enumerate(rows, record.dropped + 1):
        numbers[turn.id] = number
        ended = last.get(turn.id, record.base) if turn.ended else None
        batch.put_turn(record.place(number), turn.id, start, data, ended=ended)
        if not turn.ended:
            record.line.append(Unfinished(turn.id, number, start))
        if turn.error is not None and turn.error.code == DeadLetter.code:
            put_dead_letter(batch, record, record.place(number))
    for key in session.keys:
        if key.turn_id in numbers:
            put_key(batch, record, key.key, numbers[key.turn_id], key.digest)


def _state(reading: Reading, record: SessionRecord, agent: str) -> CarriedState:
    kept = record.states[agent]
    unseen = min(record.entries - kept.seen, record.entries - record.entries_dropped)
    return CarriedState(agent, kept.format, data_of(reading.db, record, agent), unseen)


def _events(reading: Reading, record: SessionRecord) -> Sequence[Event]:
    start = record.cursor(record.base)
    return sqlite_log.page(reading.db, record, start, record.end_seq).events


def _parts(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Events in parts of one epoch, none of them large."""
    for _, of_epoch in groupby(events, lambda event: event.epoch):
        rest = list(of_epoch)
        while rest:
            yield rest[:_PART]
            rest = rest[_PART:]
