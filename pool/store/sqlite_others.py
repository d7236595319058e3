"""The parts of a SQLite store for whoever shares it, delivers its webhooks, or operates it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pool.events import Cursor
from pool.store import sqlite_outbox as outbox
from pool.store import sqlite_rows as rows
from pool.store import sqlite_sharing as sharing
from pool.store import sqlite_transfer as transfer
from pool.store.lease import Lease, SessionKey
from pool.store.outbox import Delivery
from pool.store.sharing import Claim, Inbox, Nudge, Replica, Signal
from pool.store.sqlite_batch import name_of
from pool.store.sqlite_part import SqlitePart
from pool.store.transfer import CarriedSession


class SqliteSharing(SqlitePart):
    """The part of a SQLite store in which owners meet. All of them are in this process."""

    shared = False

    async def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        """See `Sharing.join`."""
        self._owners.join(owner, nudged)

    async def leave(self, owner: str) -> None:
        """See `Sharing.leave`."""
        self._owners.leave(owner)

    def announce(self, owner: str, status: bytes) -> None:
        """See `Sharing.announce`. It is seen at once."""
        self._owners.announce(owner, status)

    async def replicas(self) -> Sequence[Replica]:
        """See `Sharing.replicas`."""
        return self._owners.replicas()

    async def claim(self, key: SessionKey, owner: str) -> Claim | None:
        """See `Sharing.claim`."""
        return await self._write((name_of(key),), sharing.claim, key, owner)

    async def release(self, lease: Lease) -> None:
        """See `Sharing.release`. Releasing again what nobody else has claimed changes nothing."""
        name = name_of(lease.key)
        await self._write((name,), sharing.release, name, lease)

    async def orphans(self, limit: int) -> Sequence[SessionKey]:
        """See `Sharing.orphans`."""
        gone = self._owners.lapsed(self._clock())
        if gone:
            try:
                await self._write((), sharing.bury, gone)
            except BaseException:
                self._owners.unburied(gone)
                raise
        return await self._read(rows.orphans, limit, self._owners)

    async def signal(self, key: SessionKey, signal: Signal) -> bool:
        """See `Sharing.signal`."""
        return await self._write((name_of(key),), sharing.signal, key, signal)

    async def inbox(self, lease: Lease, after: str) -> Inbox:
        """See `Sharing.inbox`."""
        name = name_of(lease.key)
        return await self._write((name,), sharing.inbox, name, lease, after)

    async def watch(self, key: SessionKey, owner: str) -> Cursor | None:
        """See `Sharing.watch`."""
        return await self._write((name_of(key),), sharing.watch, key, owner)

    async def unwatch(self, key: SessionKey, owner: str) -> None:
        """See `Sharing.unwatch`."""
        self._owners.unwatch(key, owner)


class SqliteOutbox(SqlitePart):
    """The part of a SQLite store that remembers webhooks. They go with their turns' records."""

    async def take_deliveries(self, limit: int, hold_s: float) -> Sequence[Delivery]:
        """See `Outbox.take_deliveries`."""
        return await self._write((), outbox.take, limit, hold_s)

    async def put_off(self, turn_id: str, delay_s: float) -> None:
        """See `Outbox.put_off`."""
        await self._write((), outbox.put_off, turn_id, delay_s)

    async def settle(self, turn_id: str) -> None:
        """See `Outbox.settle`."""
        await self._write((), outbox.settle, turn_id)


class SqliteTransfer(SqlitePart):
    """The part of a SQLite store that an operator uses."""

    async def all_sessions(
        self, after: str | None, limit: int
    ) -> tuple[list[SessionKey], str | None]:
        """See `Transfer.all_sessions`. In the order of their making."""
        return await self._read(transfer.all_sessions, after, limit)

    async def carry_out(self, key: SessionKey) -> CarriedSession | None:
        """See `Transfer.carry_out`."""
        return await self._read(transfer.carry_out, key)

    async def carry_in(self, session: CarriedSession) -> bool:
        """See `Transfer.carry_in`."""
        return await self._write((name_of(session.key),), transfer.carry_in, session)

    async def forget_dead_letter(self, turn_id: str) -> bool:
        """See `Transfer.forget_dead_letter`."""
        return await self._write((), transfer.forget_dead_letter, turn_id)
