"""The life of a turn in the SQLite store: what happens within a transaction."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from pool.errors import Conflict, DeadLetter, IdempotencyMismatch, Internal, NotFound
from pool.store.base import Accepted, AgentState, StateChange
from pool.store.codec import encode_turn
from pool.store.lease import Lease, SessionKey
from pool.store.sharing import Nudge, TurnArrived
from pool.store.sqlite_batch import Batch
from pool.store.sqlite_find import TurnRow, turn_at, turn_by_id
from pool.store.sqlite_log import PackedEvents, add, check_follows
from pool.store.sqlite_record import SessionRecord, Unfinished, busy, lease_lost
from pool.store.sqlite_state import checkpoint, complete, drop_checkpoint, state_of
from pool.turn import Turn

# what a named tuple's own constructor does, in half the time
_new = tuple.__new__


class Incoming(Struct, frozen=True, gc=False):
    """A turn that wants to be accepted. `digest`: of its request, if it has a key."""

    turn: Turn
    data: bytes
    owner: str
    key: str | None
    digest: bytes
    reject_busy: bool
    with_state: bool


def accept(batch: Batch, name: str, incoming: Incoming) -> Accepted:
    """See `Store.accept`."""
    turn, owner = incoming.turn, incoming.owner
    record = batch.session(name)
    if record is None:
        record = batch.make(_key_of(turn))
    else:
        earlier = _earlier(batch, record, incoming)
        if earlier is not None:
            return earlier
        if incoming.reject_busy and record.line:
            raise busy(record)
        if incoming.with_state:
            batch.settle_for(record)
    batch.owners.wrote(owner, batch.now)
    lease, holder = _meet(batch, record, owner)
    end = record.end
    record.accepted = number = record.accepted + 1
    record.line.append(Unfinished(turn.id, number, record.end_seq))
    record.updated_at = batch.now
    batch.changed(record)
    passed_on = holder != owner or not owner
    data = incoming.data
    if lease is None and turn.state != "queued":
        # only where the session is given with it, it may have begun
        data = encode_turn(replace(turn, state="queued", attempt=0))
    batch.put_turn(record.place(number), turn.id, record.end_seq, data)
    if incoming.key is not None:
        put_key(batch, record, incoming.key, number, incoming.digest)
    if passed_on:
        _pass_on(batch, record, turn.id, holder)
    state = None
    if incoming.with_state and lease is not None:
        state = state_of(batch.db, record, turn.agent, turn.id)
    others = lease is not None and len(record.line) > 1
    return _new(Accepted, (turn, True, lease, holder, end, state, number, others))


def append(
    batch: Batch,
    name: str,
    lease: Lease,
    packed: PackedEvents,
    turn: Turn | None,
    data: bytes,
    state: StateChange | None,
) -> bool:
    """See `Store.append`."""
    record = held(batch, name, lease)
    if not batch.owners.granted(record):
        raise lease_lost(lease)
    if turn is None and state is not None:
        raise Internal("a checkpoint belongs to a turn; give the store that turn with it")
    entry = record.unfinished(turn.id) if turn is not None else None
    if turn is not None and entry is None:
        raise Conflict(f"turn {turn.id} has ended or is not of session {record.id}")
    packed = check_follows(batch, record, packed)
    batch.owners.wrote(lease.owner, batch.now)
    if turn is not None and entry is not None:
        batch.put_turn(record.place(entry.number), entry.turn_id, entry.after, data)
        if state is not None:
            checkpoint(batch, record, turn.agent, turn.id, state)
    add(batch, record, packed)
    batch.changed(record)
    return bool(batch.owners.watched) and _tell_watchers(batch, record)


def commit(
    batch: Batch,
    name: str,
    lease: Lease,
    turn: Turn,
    data: bytes,
    packed: PackedEvents,
    state: StateChange | None,
) -> bool:
    """See `Store.commit`."""
    record = held(batch, name, lease)
    entry = record.unfinished(turn.id)
    if entry is None:
        _must_have(batch, record, turn.id)
        return not record.line
    if not batch.owners.granted(record):
        raise lease_lost(lease)
    packed = check_follows(batch, record, packed)
    batch.owners.wrote(lease.owner, batch.now)
    add(batch, record, packed)
    place = record.place(entry.number)
    batch.put_turn(place, entry.turn_id, entry.after, data, ended=record.end_seq)
    record.line.remove(entry)
    record.updated_at = batch.now
    batch.changed(record)
    _say(batch, record, turn, place, state)
    _note_end(batch, record, turn, place)
    if batch.owners.watched:
        _tell_watchers(batch, record)
    if record.line:
        return False
    record.release()
    record.letters.clear()
    return True


def load(batch: Batch, name: str, lease: Lease, agent: str, turn_id: str) -> AgentState:
    """See `Store.load`."""
    record = held(batch, name, lease)
    batch.settle_for(record)
    return state_of(batch.db, record, agent, turn_id)


def held(batch: Batch, name: str, lease: Lease) -> SessionRecord:
    """The session, if this is its last lease; released or not."""
    record = batch.session(name)
    if record is None or record.owner != lease.owner or record.epoch != lease.epoch:
        raise lease_lost(lease)
    return record


def offer(batch: Batch, record: SessionRecord, *, but: str = "") -> None:
    """A session has unfinished turns and no holder: tell everybody, save one."""
    batch.tell(Nudge("work", record.key), but=but)


def put_key(batch: Batch, record: SessionRecord, key: str, number: int, digest: bytes) -> None:
    """An idempotency key was used for a turn."""
    batch.db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (record.num, key, number, digest))


def put_dead_letter(batch: Batch, record: SessionRecord, place: int) -> None:
    """A turn ended as a dead letter."""
    batch.db.execute("INSERT INTO dead_letters(turn, tenant) VALUES (?, ?)", (place, record.tenant))


def _earlier(batch: Batch, record: SessionRecord, incoming: Incoming) -> Accepted | None:
    """The answer for a turn that is here already, by its id or its idempotency key."""
    turn = incoming.turn
    # An id comes twice only from a caller that lost the answer. An ended turn's is found by the
    # table, which refuses it; then this is asked again, carefully.
    if record.unfinished(turn.id) is not None or batch.careful:
        found = _find(batch, record, turn.id)
        if found is not None:
            return _again(batch, record, incoming, found)
    if incoming.key is None:
        return None
    row = batch.db.execute(
        "SELECT turn, digest FROM keys WHERE session = ? AND key = ?", (record.num, incoming.key)
    ).fetchone()
    if row is None:
        return None
    number, digest = row
    if digest != incoming.digest:
        raise IdempotencyMismatch(
            f"the idempotency key was used in session {record.id} with another request; "
            "use a new key for a new request"
        )
    batch.settle_for(record)
    used = turn_at(batch.db, record.place(number))
    if used is None:
        raise Internal("an idempotency key leads to a turn that is gone; this is a defect")
    return Accepted(used.turn, False, None, batch.holder(record), record.end)


def _again(batch: Batch, record: SessionRecord, incoming: Incoming, found: TurnRow) -> Accepted:
    """The same answer as the first time, as far as it still holds."""
    turn, holder = found.turn, batch.holder(record)
    lease = state = None
    if holder == incoming.owner and holder and not turn.ended:
        lease = Lease(record.key, record.owner, record.epoch)
        if incoming.with_state:
            state = state_of(batch.db, record, turn.agent, turn.id)
    others = lease is not None and len(record.line) > 1
    return Accepted(turn, True, lease, holder, record.end, state, found.number, others)


def _find(batch: Batch, record: SessionRecord, turn_id: str) -> TurnRow | None:
    batch.settle_for(record)
    row = turn_by_id(batch.db, turn_id)
    return row if row is not None and row.session == record.num else None


def _meet(batch: Batch, record: SessionRecord, owner: str) -> tuple[Lease | None, str]:
    """An owner ("": nobody) came to a session: its lease if the session was free, and who holds it
    then.
    """
    if not record.held and owner:
        return record.claim(owner, batch.now, batch.owners.generation), owner
    holder = batch.holder(record)
    if holder or not owner:
        return None, holder
    # whoever held it is gone and did not let go of it
    return record.take_over(owner, batch.now, batch.owners.generation), owner


def _pass_on(batch: Batch, record: SessionRecord, turn_id: str, holder: str) -> None:
    """A turn is the holder's to run, or, if there is none, whoever's comes."""
    if holder:
        record.put_letter(TurnArrived(turn_id, record.accepted))
        batch.tell(Nudge("inbox", record.key), to=holder)
    else:
        offer(batch, record)


def _must_have(batch: Batch, record: SessionRecord, turn_id: str) -> None:
    if _find(batch, record, turn_id) is None:
        raise NotFound(f"session {record.id} has no turn {turn_id}")


def _say(
    batch: Batch, record: SessionRecord, turn: Turn, place: int, state: StateChange | None
) -> None:
    """What an ended turn leaves in the transcript, and in its agent's state if it completed."""
    if turn.spoken:
        batch.put_said(record.place(record.entries), place)
        record.entries += 1
    if record.checkpoints:
        drop_checkpoint(batch, record, turn.id)
    if turn.state == "completed" and (state is not None or record.states):
        complete(batch, record, turn.agent, state)


def _note_end(batch: Batch, record: SessionRecord, turn: Turn, place: int) -> None:
    if turn.error is not None and turn.error.code == DeadLetter.code:
        put_dead_letter(batch, record, place)
    if turn.request.webhook is not None:
        batch.db.execute("INSERT INTO deliveries VALUES (?, ?, 0)", (place, batch.now))
    if (
        record.accepted - record.dropped > batch.turns_max
        or record.entries - record.entries_dropped > batch.entries_max
    ):
        batch.look_at(record)


def _tell_watchers(batch: Batch, record: SessionRecord) -> bool:
    """Whether others than the holder watch; they are told that there is more."""
    watching = batch.owners.watching(record.key, but=record.owner)
    for watcher in watching:
        batch.tell(Nudge("events", record.key), to=watcher)
    return bool(watching)


def _key_of(turn: Turn) -> SessionKey:
    return SessionKey(turn.tenant, turn.session_id)
