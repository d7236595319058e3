"""What can be read from a Redis store."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Layout
from typing import Any, Final

from pool.events import START, Cursor
from pool.store.base import EventPage, Page, SessionKey
from pool.store.codec import decode_events, decode_said, ended_in
from pool.store.listing import place_of
from pool.store.redis_part import RedisPart, place_in, record_of, session_of
from pool.turn import Message, Turn

# before a batch of events: epoch, place of its last event, time in seconds
_BATCH: Final = Layout(">QQI")


class RedisReads(RedisPart):
    """The part of a Redis store that changes nothing."""

    async def find_key(self, key: SessionKey, idempotency_key: str) -> tuple[Turn, bytes] | None:
        """See `Store.find_key`. A key lives as long as its turn's record."""
        names = self._keys.find(key)
        if names is None:
            return None
        used = await self._scripts.command(
            names.partition, "HGET", names.session, f"k:{idempotency_key}"
        )
        if used is None:
            return None
        turn = await self.turn(used[16:].decode())
        return None if turn is None else (turn, used[:16])

    async def turn(self, turn_id: str) -> Turn | None:
        """See `Store.turn`."""
        data = await self._kept(turn_id)
        return None if data is None else record_of(data)

    async def _kept(self, turn_id: str) -> bytes | None:
        """What is kept of a turn, from its id alone."""
        home = self._keys.turn(turn_id)
        if home is None:
            return None
        kept: bytes | None = await self._scripts.command(home[0], "GET", home[1])
        return kept

    async def turns(self, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
        """See `Store.turns`."""
        place = place_of(after)
        names = self._keys.find(key)
        if names is None:
            return Page([], None)
        total, first, ids = await self._scripts.step("turns", names, ("", 0, place, limit))
        kept = await self._turns_of(names, [each.decode() for each in ids])
        end = first + len(ids)
        return Page([*map(record_of, kept.values())], str(end) if ids and end < total else None)

    async def turn_start(self, turn_id: str) -> Cursor | None:
        """See `Store.turn_start`. Of a turn without events yet: the end of the log."""
        data = await self._kept(turn_id)
        if data is None:
            return None
        place = place_in(data)
        if place is not None:
            return place if place.seq else START
        turn = record_of(data)
        names = self._keys.session(SessionKey(turn.tenant, turn.session_id))
        kept = await self._scripts.command(names.partition, "HGET", names.session, "a")
        # meanwhile its first events may have come: then they lie before that end
        data = await self._kept(turn_id)
        place = None if data is None else place_in(data)
        if place is not None:
            return place if place.seq else START
        return START if kept is None else session_of(kept).end

    async def messages(self, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
        """See `Store.messages`. Entry n holds the places 2n + 1 and 2n + 2 of the listing."""
        after_place = place_of(after)
        names = self._keys.find(key)
        if names is None:
            return Page([], None)
        row = ("", 0, after_place // 2, limit + 1)
        first, entries = await self._scripts.step("said", names, row)
        found = [
            (place, message)
            for number, entry in enumerate(entries, first)
            for place, message in enumerate(decode_said(entry), 2 * number + 1)
            if place > after_place
        ]
        more = len(found) > limit
        return Page(
            [message for _, message in found[:limit]], str(found[limit - 1][0]) if more else None
        )

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        """See `Store.events`. Of an unknown session everything but its beginning is lost.

        One round trip more if turns ended among the events: their records are fetched.
        """
        names = self._keys.find(key)
        answer = None
        if names is not None:
            answer = await self._scripts.step("events", names, ("", 0, *after, limit))
        if names is None or answer is None:
            return EventPage([], None if after == START else START)
        lost = None if answer[0] is None else Cursor(answer[0], answer[1])
        batches = answer[2]
        ended = {each for batch in batches for each in ended_in(batch[_BATCH.size :])}
        kept = await self._turns_of(names, list(ended)) if ended else {}
        turns = {turn_id: record_of(data) for turn_id, data in kept.items()}
        return _page(key, after if lost is None else lost, lost, limit, batches, turns)


def _page(
    key: SessionKey,
    after: Cursor,
    lost: Cursor | None,
    limit: int,
    batches: Sequence[bytes],
    turns: dict[str, Turn],
) -> EventPage:
    found: list[Any] = []
    for batch in batches:
        epoch, last, _ = _BATCH.unpack_from(batch)
        data = batch[_BATCH.size :]
        if any(each not in turns for each in ended_in(data)):
            # its turn's record is gone, and so is what the event would tell
            if found:
                break
            lost = after = Cursor(epoch, last)
            continue
        events = decode_events(data, epoch=epoch, last=last, session_id=key.id, turns=turns)
        found += [event for event in events if event.seq > after.seq]
    return EventPage(found[:limit], lost)
