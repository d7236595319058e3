"""How several pools act as one on a SQLite store: what happens within a transaction."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from pool.errors import Internal
from pool.events import Cursor
from pool.store.lease import Lease, SessionKey
from pool.store.listing import place_of
from pool.store.sharing import (
    CancelTurn,
    Claim,
    DecideCall,
    Inbox,
    Letter,
    Nudge,
    Signal,
    TurnArrived,
)
from pool.store.sqlite_batch import Batch, name_of
from pool.store.sqlite_find import turn_by_id
from pool.store.sqlite_record import decode_record, lease_lost
from pool.store.sqlite_schema import HELD_SESSIONS
from pool.store.sqlite_turns import held, offer
from pool.turn import Turn


def claim(batch: Batch, key: SessionKey, owner: str) -> Claim | None:
    """See `Sharing.claim`."""
    record = batch.session(name_of(key))
    if record is None or not record.line or batch.holder(record) not in ("", owner):
        return None
    batch.settle_for(record)
    batch.owners.wrote(owner, batch.now)
    lease = record.take_over(owner, batch.now, batch.owners.generation)
    batch.changed(record)
    turns = [(entry.number, _turn(batch, entry.turn_id)) for entry in record.line]
    return Claim(lease, record.end, turns)


def release(batch: Batch, name: str, lease: Lease) -> None:
    """See `Sharing.release`. Releasing again what nobody else has claimed changes nothing."""
    record = held(batch, name, lease)
    if not record.held:
        return
    batch.owners.wrote(lease.owner, batch.now)
    record.release()
    batch.changed(record)
    if record.line:
        offer(batch, record, but=lease.owner)


def signal(batch: Batch, key: SessionKey, content: Signal) -> bool:
    """See `Sharing.signal`."""
    record = batch.session(name_of(key))
    entry = record.unfinished(content.turn_id) if record is not None else None
    if record is None or entry is None:
        return False
    if isinstance(content, DecideCall):
        if content.question in entry.decided:
            return False
        entry.decided.append(content.question)
    if not (isinstance(content, CancelTurn) and record.has_letter(content)):
        record.put_letter(content)
    batch.changed(record)
    holder = batch.holder(record)
    if holder:
        batch.tell(Nudge("inbox", record.key), to=holder)
    return True


def inbox(batch: Batch, name: str, lease: Lease, after: str) -> Inbox:
    """See `Sharing.inbox`."""
    record = held(batch, name, lease)
    if not batch.owners.granted(record):
        raise lease_lost(lease)
    place = place_of(after or None)
    batch.owners.wrote(lease.owner, batch.now)
    watched = bool(batch.owners.watching(record.key, but=lease.owner))
    if not record.letters:
        return Inbox([], {}, watched)
    batch.settle_for(record)
    record.letters = [letter for letter in record.letters if letter[0] > place]
    record.letters_read = record.letter_place
    batch.changed(record)
    letters = [Letter(str(at), content) for at, content in record.letters]
    arrived = [each.turn_id for _, each in letters if isinstance(each, TurnArrived)]
    return Inbox(letters, {turn_id: _turn(batch, turn_id) for turn_id in arrived}, watched)


def watch(batch: Batch, key: SessionKey, owner: str) -> Cursor | None:
    """See `Sharing.watch`."""
    record = batch.session(name_of(key))
    if record is None:
        return None
    holder = batch.holder(record)
    watched = batch.owners.watching(key, but=holder)
    batch.owners.watch(key, owner)
    if holder and not watched:
        batch.tell(Nudge("inbox", key), to=holder, but=owner)
    return record.end


def bury(batch: Batch, owners: AbstractSet[str]) -> None:
    """Find what these owners hold: nobody may hold it now."""
    batch.settle()
    rows = batch.db.execute(HELD_SESSIONS).fetchall()
    records = (decode_record(data) for (data,) in rows)
    gone = [(record.num,) for record in records if record.owner in owners]
    batch.db.executemany("UPDATE sessions SET busy = 2 WHERE num = ?", gone)


def _turn(batch: Batch, turn_id: str) -> Turn:
    row = turn_by_id(batch.db, turn_id)
    if row is None:
        raise Internal(f"turn {turn_id} is gone before its end; this is a defect")
    return row.turn
