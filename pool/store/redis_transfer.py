"""Sessions that are carried into a Redis store, or out of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from pool.errors import DeadLetter, InvalidRequest
from pool.events import START, Cursor, Event
from pool.ids import PARTITIONS
from pool.store.base import SessionKey
from pool.store.codec import decode_said, encode_events, encode_said, encode_turn
from pool.store.listing import place_of
from pool.store.redis_part import head, place_in, record_of, session_of
from pool.store.redis_reads import RedisReads
from pool.store.redis_scripts import Word
from pool.store.redis_sessions import RedisSessions, info_of, made_with
from pool.store.transfer import CarriedKey, CarriedSession, CarriedState
from pool.turn import Turn

# How many events a batch has, and how many are read at once.
_BATCH: Final = 64
_PAGE: Final = 1_000
_FIELDS: Final = (b"a", b"c", b"i")


class RedisTransfer(RedisReads, RedisSessions):
    """The part of a Redis store that an operator uses."""

    async def all_sessions(
        self, after: str | None, limit: int
    ) -> tuple[list[SessionKey], str | None]:
        """See `Transfer.all_sessions`. Partition by partition, tenants by name."""
        first, tenant, place = _place(after)
        found: list[tuple[SessionKey, str]] = []
        for number in range(first, PARTITIONS):
            tenants = await self._scripts.command(
                number, "SMEMBERS", self._keys.of_partition(number, "tenants")
            )
            for name in sorted(each.decode() for each in tenants):
                if number == first and name < tenant:
                    continue
                behind = place if (number, name) == (first, tenant) else 0
                found += await self._named(number, name, behind, limit + 1 - len(found))
                if len(found) > limit:
                    return [key for key, _ in found[:limit]], found[limit - 1][1]
        return [key for key, _ in found], None

    async def _named(
        self, partition: int, tenant: str, after: int, limit: int
    ) -> list[tuple[SessionKey, str]]:
        """Sessions of a tenant in a partition, each with the cursor behind it."""
        found: list[tuple[SessionKey, str]] = []
        index = self._keys.index(partition, tenant)
        while len(found) < limit:
            listed = await self._scripts.command(
                partition,
                *("ZRANGEBYSCORE", index, f"({after}", "+inf", "WITHSCORES", "LIMIT", 0, limit),
            )
            keys = [SessionKey(tenant, each.decode()) for each in listed[::2]]
            alive = await self._scripts.command_all(
                [(partition, ("EXISTS", self._keys.session(key).session)) for key in keys]
            )
            for key, score, lives in zip(keys, listed[1::2], alive, strict=True):
                after = int(float(score))
                if lives:
                    found.append((key, f"{partition}/{tenant}/{after}"))
            if len(keys) < limit:
                break
        return found[:limit]

    async def carry_out(self, key: SessionKey) -> CarriedSession | None:
        """See `Transfer.carry_out`."""
        names = self._keys.find(key)
        if names is None:
            return None
        found, ids, said, states = await self._scripts.command_all(
            [
                (names.partition, ("HGETALL", names.session)),
                (names.partition, ("LRANGE", names.ids, 0, -1)),
                (names.partition, ("LRANGE", names.said, 0, -1)),
                (names.partition, ("HGETALL", names.states)),
            ]
        )
        fields = dict(zip(found[::2], found[1::2], strict=True))
        info = info_of(key.id, [fields.get(name) for name in _FIELDS])
        if info is None:
            return None
        records = await self._scripts.command_all(
            [(names.partition, ("GET", names.turn(each.decode()))) for each in ids]
        )
        kept = [data for data in records if data is not None]
        end = session_of(fields[b"a"]).end
        entries = int(fields.get(b"d", 0)) + len(said)
        return CarriedSession(
            key=key,
            info=info,
            turns=[record_of(data) for data in kept],
            starts=[(place_in(data) or end).seq for data in kept],
            keys=_keys_in(fields, {turn for turn, data in zip(ids, records, strict=True) if data}),
            said=[decode_said(entry) for entry in said],
            states=_states_in(
                dict(zip(states[::2], states[1::2], strict=True)), entries, len(said)
            ),
            events=await self._all_events(key),
            end=end,
        )

    async def _all_events(self, key: SessionKey) -> list[Event]:
        found: list[Event] = []
        after = START
        while True:
            page = await self.events(key, after, _PAGE)
            if page.lost is not None:
                # what was read before it can still be replayed no more
                found = []
                after = page.lost
            if not page.events:
                return found
            found += page.events
            after = found[-1].cursor

    async def carry_in(self, session: CarriedSession) -> bool:
        """See `Transfer.carry_in`."""
        key, info = session.key, session.info
        names = self._keys.session(key)
        places = _Places(session)
        lists = _lists(session, places)
        made, ttl_ms = made_with(info)
        of_partition = (*names.listing, f"{names.head}dead")
        kept = await self._scripts.step(
            "carry_in",
            names,
            (
                *("", 0, key.tenant, *session.end, ttl_ms),
                *(_micros(info.created_at), _micros(info.updated_at), info.turns),
                *map(len, lists),
            ),
            made,
            places.base.encode(),
            *(_word(word) for items in lists for item in items for word in item),
            keys=(*of_partition, *(names.turn(turn.id) for turn in session.turns)),
        )
        return bool(kept)

    async def forget_dead_letter(self, turn_id: str) -> bool:
        """See `Transfer.forget_dead_letter`."""
        home, turn = self._keys.turn(turn_id), await self.turn(turn_id)
        if home is None or turn is None:
            return False
        number = home[0]
        dead = self._keys.of_partition(number, "dead")
        return bool(await self._scripts.command(number, "ZREM", dead, f"{turn_id}:{turn.tenant}"))


class _Places:
    """Cursors of a session's places, as far as its events tell them."""

    def __init__(self, session: CarriedSession) -> None:
        events, end = session.events, session.end
        self._epochs = {event.seq: event.epoch for event in events}
        self._first = (events[0].epoch, events[0].seq - 1) if events else end
        self._end = end

    @property
    def base(self) -> str:
        """The newest event that is gone, or "" if none is."""
        return "{}-{}".format(*self._first) if self._first[1] else ""

    def before(self, seq: int) -> Cursor:
        """The cursor of a place; START (it has none) if no event follows it."""
        if seq >= self._end.seq:
            return START
        return Cursor(self._epochs.get(seq, self._first[0]), seq)


def _lists(session: CarriedSession, places: _Places) -> list[list[tuple[Word, ...]]]:
    """Turns, keys, entries, states and batches, each as the script takes it."""
    # the turns before the first were accepted, and are forgotten
    first = max(0, session.info.turns - len(session.turns)) + 1
    turns = zip(session.turns, session.starts, strict=True)
    total = len(session.said)
    return [
        [
            (
                turn.id,
                head(turn, places.before(start), number) + encode_turn(turn),
                "1" if _is_dead(turn) else "",
            )
            for number, (turn, start) in enumerate(turns, first)
        ],
        [(each.key, each.digest + each.turn_id.encode()) for each in session.keys],
        [(encode_said(entry),) for entry in session.said],
        [
            (each.agent, each.format, each.data, max(0, total - each.unseen))
            for each in session.states
        ],
        _batches(session.events),
    ]


def _batches(events: Sequence[Event]) -> list[tuple[Word, ...]]:
    """Events as batches: epoch, place of the last, and the events."""
    batches: list[tuple[Word, ...]] = []
    for epoch, group in groupby(events, key=lambda event: event.epoch):
        run = list(group)
        for first in range(0, len(run), _BATCH):
            part = run[first : first + _BATCH]
            batches.append((epoch, part[-1].seq, encode_events(part)))
    return batches


def _keys_in(fields: dict[bytes, bytes], turn_ids: set[bytes]) -> list[CarriedKey]:
    return [
        CarriedKey(name[2:].decode(), used[16:].decode(), used[:16])
        for name, used in fields.items()
        if name.startswith(b"k:") and used[16:] in turn_ids
    ]


def _states_in(kept: dict[bytes, bytes], total: int, entries: int) -> list[CarriedState]:
    states = []
    for name, about in kept.items():
        if b":" in name:
            continue
        _, seen, parts, format_ = about.split(b" ", 3)
        data = b"".join(kept[b"%b:%d" % (name, part)] for part in range(1, int(parts) + 1))
        unseen = min(total - int(seen), entries)
        states.append(CarriedState(name.decode(), format_.decode(), data, unseen))
    return states


def _word(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def _is_dead(turn: Turn) -> bool:
    return turn.error is not None and turn.error.code == DeadLetter.code


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _place(after: str | None) -> tuple[int, str, int]:
    if after is None:
        return 0, "", 0
    number, _, rest = after.partition("/")
    tenant, slash, place = rest.partition("/")
    if not slash or place_of(number) >= PARTITIONS:
        raise InvalidRequest(
            "this is no cursor of this listing; begin again without", field="after"
        )
    return int(number), tenant, place_of(place)
