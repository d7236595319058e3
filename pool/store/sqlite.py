"""The store in a file: it survives the process, and needs no server.

One thread writes: what waits for it goes into one transaction, so that many turns share the cost of
one. Another one reads, from what was written last. The file belongs to one server process at a
time; an operator's command may open it beside that (`exclusive=False`).

The database is the truth. What the writer keeps of it in memory are sessions as it wrote them last,
while nobody else has written.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from pool.errors import PoolError, StoreUnavailable
from pool.events import Event
from pool.store import sqlite_sessions as sessions
from pool.store import sqlite_turns as turns
from pool.store.base import Accepted, AgentState, StateChange
from pool.store.codec import encode_turn
from pool.store.lease import Lease, SessionKey
from pool.store.limits import Retention
from pool.store.sqlite_batch import Batch, name_of
from pool.store.sqlite_cabinet import SqliteCabinet
from pool.store.sqlite_counters import SqliteCounters
from pool.store.sqlite_file import SqliteFile, Synchronous
from pool.store.sqlite_log import pack
from pool.store.sqlite_others import SqliteOutbox, SqliteSharing, SqliteTransfer
from pool.store.sqlite_owners import Owners
from pool.store.sqlite_reads import SqliteReads
from pool.store.sqlite_sweep import step
from pool.store.sqlite_worker import Worker
from pool.store.sqlite_writer import Writer
from pool.turn import SessionInfo, Turn

_log = structlog.get_logger("pool.store.sqlite")

# How often it is looked for what is due to go, in seconds.
SWEEP_EVERY_S = 1.0


class SqliteStore(
    SqliteReads, SqliteSharing, SqliteOutbox, SqliteTransfer, SqliteCabinet, SqliteCounters
):
    """A `Store` in an SQLite file (`:memory:`: in memory, for tests).

    `clock` gives seconds since the epoch. `lease_s`: how long the lease of an owner that has not
    joined outlives its last write. `synchronous`: `full` keeps what was accepted even if the
    machine loses its power, `normal` if the process dies. `exclusive`: this is the server that the
    file belongs to; what another server process held before is void. `max_bytes`: how large the
    file may be (None: as its disk has room); then writes are refused until something was let go.
    """

    durable = True
    suspends = True

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        retention: Retention | None = None,
        lease_s: float = 10.0,
        synchronous: Synchronous = "full",
        exclusive: bool = True,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(Owners(lease_s, exclusive=exclusive), clock)
        self.retention = retention or Retention()
        self._file = SqliteFile(
            path, synchronous=synchronous, exclusive=exclusive, max_bytes=max_bytes
        )
        self._sweeping: asyncio.Future[bool] | None = None
        self._sweep_at = 0.0

    def __repr__(self) -> str:
        return f"<SqliteStore {self._file.path} {self._owners!r}>"

    # --- operation

    async def open(self) -> None:
        """Open the file, or make it.

        `ConfigError` says what is wrong with it: another server uses it, it is damaged, or of a
        newer version. `StoreUnavailable`: the disk is full, or another program keeps it locked.
        """
        if self._writer is not None:
            return
        loop = asyncio.get_running_loop()
        self._owners.generation = await loop.run_in_executor(None, self._file.open)
        self._reader = self._writer = self._worker("sqlite writer", self._file.writer)
        if not self._file.in_memory:
            self._reader = self._worker("sqlite reader", self._file.reader)

    async def close(self) -> None:
        """Write what is still to be written and let go of the file. May be called twice."""
        for worker in (self._writer, self._reader):
            if worker is not None:
                await worker.close()
        self._writer = self._reader = None
        await asyncio.get_running_loop().run_in_executor(None, self._file.close)

    async def ping(self) -> None:
        """See `Store.ping`. It waits for its turn like any write."""
        await self._write((), _nothing)

    def tick(self) -> None:
        """Let go of a little of what is too old or too much, in the store's own thread."""
        if self._sweeping is not None or self._writer is None or self._clock() < self._sweep_at:
            return
        try:
            self._sweeping = self._write((), step)
        except StoreUnavailable:
            # its thread has ended, as everybody is told who calls
            return
        self._sweeping.add_done_callback(self._swept)

    # --- the life of a turn

    async def accept(
        self,
        turn: Turn,
        *,
        owner: str,
        key: str | None = None,
        reject_busy: bool = False,
        with_state: bool = False,
    ) -> Accepted:
        """See `Store.accept`. `InvalidRequest` if its metadata is not plain data."""
        incoming = turns.Incoming(
            turn,
            encode_turn(turn),
            owner,
            key,
            b"" if key is None else turn.request.digest(turn.agent),
            reject_busy,
            with_state,
        )
        name = f"{turn.tenant}/{turn.session_id}"
        return await self._write((name,), turns.accept, name, incoming)

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """See `Store.append`. `Internal` if events are not dense, `Conflict` if the turn ended."""
        name = name_of(lease.key)
        packed = pack(events, lease.epoch)
        data = b"" if turn is None else encode_turn(turn)
        return await self._write((name,), turns.append, name, lease, packed, turn, data, state)

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        """See `Store.commit`. The state counts if the turn completed; else it stays as it was."""
        name = name_of(lease.key)
        packed = pack(events, lease.epoch)
        data = encode_turn(turn)
        return await self._write((name,), turns.commit, name, lease, turn, data, packed, state)

    async def load(self, lease: Lease, agent: str, turn_id: str) -> AgentState:
        """See `Store.load`. Without a state yet: format "", no data, and the whole transcript."""
        name = name_of(lease.key)
        return await self._write((name,), turns.load, name, lease, agent, turn_id)

    # --- sessions

    async def create_session(self, key: SessionKey, info: SessionInfo) -> SessionInfo:
        """See `Store.create_session`. It is made now, whatever times `info` has."""
        metadata = sessions.metadata_of(info)
        return await self._write((name_of(key),), sessions.create, key, info, metadata)

    async def delete_session(self, key: SessionKey) -> bool:
        """See `Store.delete_session`."""
        return await self._write((name_of(key),), sessions.delete, key)

    async def fork_session(
        self, key: SessionKey, new: SessionKey, through_turn: str | None
    ) -> SessionInfo:
        """See `Store.fork_session`. Agent, metadata and `ttl_s` are those of the old one."""
        names = (name_of(key), name_of(new))
        return await self._write(names, sessions.fork, key, new, through_turn)

    # --- steps

    def _worker(self, name: str, db: sqlite3.Connection) -> Worker:
        writer = Writer(db, clock=self._clock, owners=self._owners, retention=self.retention)
        return Worker(name, writer, self._owners.tell)

    def _swept(self, swept: asyncio.Future[bool]) -> None:
        self._sweeping = None
        error = swept.exception()
        if error is not None:
            detail = error.detail if isinstance(error, PoolError) else type(error).__name__
            _log.warning("the store could not let go of what is too old", error=detail)
        more = error is None and swept.result()
        self._sweep_at = 0.0 if more else self._clock() + SWEEP_EVERY_S


def _nothing(_: Batch) -> None:
    pass
