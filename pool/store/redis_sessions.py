"""Sessions in a Redis store: made, listed, deleted, forked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from heapq import merge
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from pool.errors import Conflict, NotFound, StoreUnavailable
from pool.events import START
from pool.ids import PARTITIONS
from pool.store.base import Page, SessionKey
from pool.store.codec import decode_plain, decode_said, encode_plain
from pool.store.listing import place_of
from pool.store.redis_keys import is_id
from pool.store.redis_part import RedisPart, busy, record_of, session_of
from pool.turn import SessionInfo, Turn

# Turns that come between while a session is deleted or forked; then the caller may ask again.
_TRIES: Final = 3
_INFO: Final = ("a", "c", "i")
# A place in a listing: microseconds, then two digits of the partition.
_PLACES: Final = 100
_DEAD_AT_ONCE: Final = 1_000


class _Made(Struct, array_like=True):
    """What a session was made with. `metadata` is JSON."""

    agent: str | None = None
    metadata: bytes | None = None
    ttl_s: float | None = None


class _Listed(NamedTuple):
    place: int
    id: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Made).decode


class RedisSessions(RedisPart):
    """The part of a Redis store that keeps sessions."""

    async def create_session(self, key: SessionKey, info: SessionInfo) -> SessionInfo:
        """See `Store.create_session`. It is made now, whatever times `info` has."""
        return await self._make(key, info, ())

    async def session(self, key: SessionKey) -> SessionInfo | None:
        """See `Store.session`."""
        names = self._keys.find(key)
        if names is None:
            return None
        found = await self._scripts.command(names.partition, "HMGET", names.session, *_INFO)
        return info_of(key.id, found)

    async def sessions(self, tenant: str, after: str | None, limit: int) -> Page[SessionInfo]:
        """See `Store.sessions`. The partitions' lists are merged."""
        place = place_of(after)
        if not is_id(tenant):
            return Page([], None)
        found: list[tuple[int, SessionInfo]] = []
        while len(found) <= limit:
            listed = await self._listed(tenant, place, limit + 1)
            infos = await self._infos(tenant, [each.id for each in listed])
            for each, info in zip(listed, infos, strict=True):
                if info is not None:
                    found.append((each.place, info))
            if len(listed) <= limit:
                break
            place = listed[-1].place
        more = len(found) > limit
        return Page([info for _, info in found[:limit]], str(found[limit - 1][0]) if more else None)

    async def delete_session(self, key: SessionKey) -> bool:
        """See `Store.delete_session`."""
        names = self._keys.find(key)
        if names is None:
            return False
        of_partition = [f"{names.head}{name}" for name in ("hooks", "tries", "dead")]
        for _ in range(_TRIES):
            ids = await self._scripts.command(names.partition, "LRANGE", names.ids, 0, -1)
            turns = [names.turn(each.decode()) for each in ids]
            status, *answer = await self._scripts.step(
                "delete",
                names,
                ("", 0, key.tenant, key.id),
                *ids,
                keys=(*names.listing, *of_partition, *turns),
            )
            if status == b"busy":
                raise busy(key.id, answer[0])
            if status != b"changed":
                return bool(status == b"ok")
        raise StoreUnavailable(f"session {key.id} was used while it was to be deleted; ask again")

    async def fork_session(
        self, key: SessionKey, new: SessionKey, through_turn: str | None
    ) -> SessionInfo:
        """See `Store.fork_session`. Agent, metadata and `ttl_s` are those of the old one."""
        info = await self.session(key)
        if info is None:
            raise NotFound(f"there is no session {key.id}")
        entries = await self._said_through(key, through_turn)
        return await self._make(new, info, entries)

    async def _make(
        self, key: SessionKey, info: SessionInfo, entries: Sequence[bytes]
    ) -> SessionInfo:
        names = self._keys.session(key)
        with_, ttl_ms = made_with(info)
        row = ("", 0, ttl_ms)
        made = await self._scripts.step("create", names, row, with_, *entries, keys=names.listing)
        if made is None:
            raise Conflict(f"there is a session {key.id} already")
        return SessionInfo(
            id=key.id,
            agent=info.agent,
            metadata=info.metadata,
            ttl_s=info.ttl_s,
            created_at=_seconds(made),
            updated_at=_seconds(made),
        )

    async def _said_through(self, key: SessionKey, turn_id: str | None) -> list[bytes]:
        """The entries up to a turn's own. If it said nothing: up to those of the turns after it."""
        names = self._keys.session(key)
        said, ids = await self._scripts.command_all(
            [(names.partition, ("LRANGE", each, 0, -1)) for each in (names.said, names.ids)]
        )
        if turn_id is None:
            return list(said)
        speakers = [decode_said(entry)[0].turn_id for entry in said]
        if turn_id in speakers:
            return list(said[: speakers.index(turn_id) + 1])
        order = [each.decode() for each in ids]
        if turn_id not in order:
            raise NotFound(f"session {key.id} has no turn {turn_id}")
        later = set(order[order.index(turn_id) + 1 :])
        end = next((place for place, each in enumerate(speakers) if each in later), len(said))
        return list(said[:end])

    # --- lists

    async def _listed(self, tenant: str, after: int, limit: int) -> list[_Listed]:
        """Up to so many sessions after a place, in the order of their making."""
        micros, last_partition = divmod(after, _PLACES)
        calls = [
            (
                number,
                (
                    *("ZRANGEBYSCORE", self._keys.index(number, tenant)),
                    str(micros) if number > last_partition else f"({micros}",
                    *("+inf", "WITHSCORES", "LIMIT", 0, limit),
                ),
            )
            for number in range(PARTITIONS)
        ]
        answers = await self._scripts.command_all(calls)
        lists = [
            [
                _Listed(int(float(score)) * _PLACES + number, name.decode())
                for name, score in zip(answer[::2], answer[1::2], strict=True)
            ]
            for number, answer in enumerate(answers)
        ]
        return list(merge(*lists))[:limit]

    async def _infos(self, tenant: str, ids: Sequence[str]) -> list[SessionInfo | None]:
        names = [self._keys.session(SessionKey(tenant, each)) for each in ids]
        found = await self._scripts.command_all(
            [(each.partition, ("HMGET", each.session, *_INFO)) for each in names]
        )
        return [info_of(each, answer) for each, answer in zip(ids, found, strict=True)]

    # --- dead letters

    async def dead_letters(self, tenant: str | None, limit: int) -> Sequence[Turn]:
        """See `Store.dead_letters`."""
        parts = await asyncio.gather(
            *[self._dead_letters(number, tenant, limit) for number in range(PARTITIONS)]
        )
        found = [entry for part in parts for entry in part]
        found.sort(reverse=True, key=lambda entry: entry[0])
        return [turn for _, turn in found[:limit]]

    async def _dead_letters(
        self, partition: int, tenant: str | None, limit: int
    ) -> list[tuple[float, Turn]]:
        """The newest of one partition, with their times."""
        found: list[tuple[float, Turn]] = []
        dead = self._keys.of_partition(partition, "dead")
        first = 0
        while len(found) < limit:
            last = first + _DEAD_AT_ONCE - 1
            listed = await self._scripts.command(
                partition, "ZREVRANGE", dead, first, last, "WITHSCORES"
            )
            for name, at in zip(listed[::2], listed[1::2], strict=True):
                turn_id, _, whose = name.decode().partition(":")
                if len(found) < limit and tenant in (None, whose):
                    key = f"{self._keys.of_partition(partition, 't:')}{turn_id}"
                    data = await self._scripts.command(partition, "GET", key)
                    if data is not None:
                        found.append((float(at), record_of(data)))
            if len(listed) < 2 * _DEAD_AT_ONCE:
                break
            first = last + 1
        return found


def info_of(session_id: str, found: Sequence[Any]) -> SessionInfo | None:
    """The session of the fields `_INFO`."""
    kept, made_at, made = found
    if kept is None:
        return None
    session = session_of(kept)
    row = _Made() if made is None else _decode(made)
    return SessionInfo(
        id=session_id,
        agent=row.agent,
        metadata={} if row.metadata is None else decode_plain(row.metadata),
        ttl_s=row.ttl_s,
        created_at=_seconds(made_at),
        updated_at=_seconds(session.used),
        turns=session.accepted,
        cursor=str(session.end if session.end.seq else START),
    )


def made_with(info: SessionInfo) -> tuple[bytes, int]:
    """What a session was made with, and its time to live in ms, or 0, as the scripts take them."""
    metadata = encode_plain(info.metadata, "metadata") if info.metadata else None
    row = _Made(info.agent, metadata, info.ttl_s)
    ttl_ms = 0 if info.ttl_s is None else max(1, int(info.ttl_s * 1000))
    return b"" if row == _Made() else _encode(row), ttl_ms


def _seconds(micros: bytes | int) -> float:
    return int(micros) / 1_000_000
