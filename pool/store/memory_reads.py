"""What can be read from a memory store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pool.events import START, Cursor
from pool.store.base import EventPage, Page, SessionKey
from pool.store.listing import place_of
from pool.store.memory_part import MemoryPart
from pool.turn import Message, SessionInfo, Turn


class MemoryReads(MemoryPart):
    """The part of a memory store that changes nothing."""

    async def find_key(self, key: SessionKey, idempotency_key: str) -> tuple[Turn, bytes] | None:
        """See `Store.find_key`. A key lives as long as its turn's record."""
        session = self._find(key)
        return None if session is None else session.used_key(idempotency_key)

    async def turn(self, turn_id: str) -> Turn | None:
        """See `Store.turn`."""
        session = self._sessions.find_turn(turn_id, self._clock())
        return None if session is None else session.turns[turn_id].turn

    async def turns(self, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
        """See `Store.turns`."""
        session = self._find(key)
        return _nothing(after) if session is None else session.page(after, limit)

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        """See `Store.events`. Of an unknown session everything but its beginning is lost."""
        session = self._find(key)
        if session is None:
            return EventPage([], None if after == START else START)
        return session.log.after(after, limit)

    async def turn_start(self, turn_id: str) -> Cursor | None:
        """See `Store.turn_start`. Of a turn without events yet: the end of the log."""
        session = self._sessions.find_turn(turn_id, self._clock())
        if session is None:
            return None
        return session.log.before(turn_id, session.turns[turn_id].after)

    async def messages(self, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
        """See `Store.messages`."""
        session = self._find(key)
        return _nothing(after) if session is None else session.transcript.page(after, limit)

    async def session(self, key: SessionKey) -> SessionInfo | None:
        """See `Store.session`."""
        return self._sessions.info(key, self._clock())

    async def sessions(self, tenant: str, after: str | None, limit: int) -> Page[SessionInfo]:
        """See `Store.sessions`."""
        return self._sessions.page(tenant, after, limit, self._clock())

    async def dead_letters(self, tenant: str | None, limit: int) -> Sequence[Turn]:
        """See `Store.dead_letters`."""
        found = (
            await self.turn(turn_id) for turn_id in self._sessions.dead_letters_of(tenant, limit)
        )
        return [turn async for turn in found if turn is not None]


def _nothing(after: str | None) -> Page[Any]:
    place_of(after)
    return Page([], None)
