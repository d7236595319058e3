"""Sessions of the SQLite store as they are made, forked and deleted."""

from __future__ import annotations

from pool.errors import Conflict, NotFound
from pool.store.codec import encode_plain
from pool.store.lease import SessionKey
from pool.store.sqlite_batch import Batch, name_of
from pool.store.sqlite_find import turn_by_id
from pool.store.sqlite_record import SessionRecord, busy
from pool.store.sqlite_said import through
from pool.turn import SessionInfo


def create(batch: Batch, key: SessionKey, info: SessionInfo, metadata: bytes | None) -> SessionInfo:
    """See `Store.create_session`. It is made now, whatever times `info` has."""
    record = _make(batch, key)
    record.agent, record.metadata, record.ttl_s = info.agent, metadata, info.ttl_s
    return record.info


def delete(batch: Batch, key: SessionKey) -> bool:
    """See `Store.delete_session`."""
    record = batch.session(name_of(key))
    if record is None:
        return False
    if record.line:
        raise busy(record)
    batch.drop(record)
    return True


def fork(batch: Batch, key: SessionKey, new: SessionKey, through_turn: str | None) -> SessionInfo:
    """See `Store.fork_session`. Agent, metadata and `ttl_s` are those of the old one."""
    old = batch.session(name_of(key))
    if old is None:
        raise NotFound(f"there is no session {key.id}")
    batch.settle()
    number = None if through_turn is None else _number(batch, old, through_turn)
    entries = through(batch.db, old, through_turn, number)
    if entries is None:
        raise NotFound(f"session {key.id} has no turn {through_turn}")
    record = _make(batch, new)
    record.agent, record.metadata, record.ttl_s = old.agent, old.metadata, old.ttl_s
    for place, data in enumerate(entries):
        batch.put_said(record.place(place), None, data)
    record.entries = len(entries)
    return record.info


def metadata_of(info: SessionInfo) -> bytes | None:
    """The metadata as it is stored; `InvalidRequest` if it is not plain data."""
    return encode_plain(info.metadata, "metadata") if info.metadata else None


def _make(batch: Batch, key: SessionKey) -> SessionRecord:
    if batch.session(name_of(key)) is not None:
        raise Conflict(f"there is a session {key.id} already")
    return batch.make(key)


def _number(batch: Batch, record: SessionRecord, turn_id: str) -> int | None:
    row = turn_by_id(batch.db, turn_id)
    return row.number if row is not None and row.session == record.num else None
