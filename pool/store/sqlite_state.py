"""What agents keep of a session in the SQLite store: in parts, so that what grows is not rewritten.

An agent's state is kept under the agent's name, the checkpoint of a turn under `turn/` and its id.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from pool.store.base import AgentState, StateChange
from pool.store.sqlite_batch import Batch
from pool.store.sqlite_record import KeptState, SessionRecord
from pool.store.sqlite_said import unseen
from pool.store.sqlite_schema import PLACE_BITS
from pool.store.transfer import CarriedState

# A state of more parts is joined into one: reading it stays cheap, and each byte is rewritten
# once in so many changes.
PARTS_MAX: Final = 64


def state_of(db: sqlite3.Connection, record: SessionRecord, agent: str, turn_id: str) -> AgentState:
    """The turn's checkpoint, or else the agent's state; and what it has not seen."""
    holder, kept = _find(record, agent, turn_id)
    if kept is None:
        return AgentState("", None, 0, unseen(db, record, 0))
    data = data_of(db, record, holder)
    return AgentState(kept.format, data, kept.version, unseen(db, record, kept.seen))


def checkpoint(
    batch: Batch, record: SessionRecord, agent: str, turn_id: str, change: StateChange
) -> None:
    """Keep a state for a turn that has not ended. What it grows from stays as it was."""
    holder, kept = _find(record, agent, turn_id)
    own = _checkpoint(turn_id)
    if kept is not None and holder != own and _grows(kept, change):
        start = data_of(batch.db, record, holder)
        kept = _replaced(batch, record, own, StateChange(kept.format, start))
    elif holder != own:
        kept = None
    record.checkpoints[turn_id] = _changed(batch, record, own, kept, change)


def complete(batch: Batch, record: SessionRecord, agent: str, change: StateChange | None) -> None:
    """A turn has completed: its agent has seen it, and all before it."""
    kept = record.states.get(agent)
    if change is not None:
        record.states[agent] = _changed(batch, record, agent, kept, change)
    elif kept is not None:
        kept.seen = record.entries


def data_of(db: sqlite3.Connection, record: SessionRecord, holder: str) -> bytes:
    """The whole of a state, by its agent (or what its checkpoint is called)."""
    rows = db.execute(
        "SELECT data FROM states WHERE session = ? AND holder = ? ORDER BY part",
        (record.num, holder),
    )
    return b"".join([data for (data,) in rows])


def carry_state(batch: Batch, record: SessionRecord, state: CarriedState) -> None:
    """Keep a state that was carried here."""
    change = StateChange(state.format, state.data)
    kept = _replaced(batch, record, state.agent, change)
    kept.seen = max(0, record.entries - state.unseen)
    record.states[state.agent] = kept


def drop_checkpoint(batch: Batch, record: SessionRecord, turn_id: str) -> None:
    """A turn has ended, and with it what counted for it only."""
    if record.checkpoints.pop(turn_id, None) is not None:
        _delete(batch, record, _checkpoint(turn_id))


def _find(record: SessionRecord, agent: str, turn_id: str) -> tuple[str, KeptState | None]:
    kept = record.checkpoints.get(turn_id)
    if kept is not None:
        return _checkpoint(turn_id), kept
    return agent, record.states.get(agent)


def _checkpoint(turn_id: str) -> str:
    # no agent's name has a slash
    return f"turn/{turn_id}"


def _grows(kept: KeptState, change: StateChange) -> bool:
    # what is appended to a state of another format begins a new one
    return change.append and kept.format == change.format


def _changed(
    batch: Batch, record: SessionRecord, holder: str, kept: KeptState | None, change: StateChange
) -> KeptState:
    if kept is None or not _grows(kept, change):
        return _replaced(batch, record, holder, change)
    if kept.parts >= PARTS_MAX:
        joined = StateChange(change.format, data_of(batch.db, record, holder) + change.data)
        return _replaced(batch, record, holder, joined)
    _insert(batch, record, holder, kept.parts, change.data)
    return KeptState(kept.format, _next_version(record), record.entries, kept.parts + 1)


def _replaced(batch: Batch, record: SessionRecord, holder: str, change: StateChange) -> KeptState:
    _delete(batch, record, holder)
    _insert(batch, record, holder, 0, change.data)
    return KeptState(change.format, _next_version(record), record.entries, 1)


def _next_version(record: SessionRecord) -> int:
    # a session's number never comes again, so that no version does
    record.versions += 1
    return record.num << PLACE_BITS | record.versions


def _insert(batch: Batch, record: SessionRecord, holder: str, part: int, data: bytes) -> None:
    batch.db.execute("INSERT INTO states VALUES (?, ?, ?, ?)", (record.num, holder, part, data))


def _delete(batch: Batch, record: SessionRecord, holder: str) -> None:
    batch.db.execute("DELETE FROM states WHERE session = ? AND holder = ?", (record.num, holder))
