"""What can be read from a SQLite store."""

from __future__ import annotations

from collections.abc import Sequence

from pool.events import Cursor
from pool.store import sqlite_rows as rows
from pool.store.base import EventPage, Page
from pool.store.lease import SessionKey
from pool.store.sqlite_part import SqlitePart
from pool.turn import Message, SessionInfo, Turn


class SqliteReads(SqlitePart):
    """The part of a SQLite store that changes nothing."""

    async def find_key(self, key: SessionKey, idempotency_key: str) -> tuple[Turn, bytes] | None:
        """See `Store.find_key`. A key lives as long as its turn's record."""
        return await self._read(rows.find_key, key, idempotency_key)

    async def turn(self, turn_id: str) -> Turn | None:
        """See `Store.turn`."""
        return await self._read(rows.turn, turn_id)

    async def turns(self, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
        """See `Store.turns`."""
        return await self._read(rows.turns, key, after, limit)

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        """See `Store.events`. Of an unknown session everything but its beginning is lost."""
        return await self._read(rows.events, key, after, limit)

    async def turn_start(self, turn_id: str) -> Cursor | None:
        """See `Store.turn_start`. Of a turn without events yet: the end of the log."""
        return await self._read(rows.turn_start, turn_id)

    async def messages(self, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
        """See `Store.messages`."""
        return await self._read(rows.messages, key, after, limit)

    async def session(self, key: SessionKey) -> SessionInfo | None:
        """See `Store.session`."""
        return await self._read(rows.session, key)

    async def sessions(self, tenant: str, after: str | None, limit: int) -> Page[SessionInfo]:
        """See `Store.sessions`."""
        return await self._read(rows.sessions, tenant, after, limit)

    async def dead_letters(self, tenant: str | None, limit: int) -> Sequence[Turn]:
        """See `Store.dead_letters`."""
        return await self._read(rows.dead_letters, tenant, limit)
