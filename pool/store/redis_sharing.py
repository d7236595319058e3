"""How several processes act as one through a Redis store."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

from pool.events import Cursor
from pool.ids import PARTITIONS
from pool.store.base import Lease, SessionKey
from pool.store.listing import place_of
from pool.store.redis_keys import is_id, key_of
from pool.store.redis_part import lease_lost, number_in, record_of
from pool.store.redis_turns import RedisTurns
from pool.store.sharing import (
    CancelTurn,
    Claim,
    DecideCall,
    Inbox,
    Letter,
    Signal,
    TurnArrived,
)

# what a letter begins with that tells of a turn
_ARRIVED: Final = b"+"
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(CancelTurn | DecideCall).decode


class RedisSharing(RedisTurns):
    """The part of a Redis store in which processes meet."""

    _random: Random

    # --- sessions that change hands

    async def claim(self, key: SessionKey, owner: str) -> Claim | None:
        """See `Sharing.claim`. Two round trips: the records of the turns are fetched after it."""
        names = self._keys.find(key)
        answer = None if names is None else await self._claim(key, owner)
        if names is None or answer is None:
            return None
        epoch = answer[0]
        self._servers.given(names.partition, epoch)
        lease = Lease(key, owner, epoch)
        self._ledger.took(lease)
        await self._shown(owner)
        kept = await self._turns_of(names, [each.decode() for each in answer[3]])
        turns = [(number_in(data), record_of(data)) for data in kept.values()]
        return Claim(lease, Cursor(answer[1], answer[2]), turns)

    async def release(self, lease: Lease) -> None:
        """See `Sharing.release`. Releasing again what nobody else has claimed changes nothing."""
        names = self._keys.session(lease.key)
        released = await self._scripts.step("release", names, (lease.owner, lease.epoch))
        self._ledger.let_go(lease)
        if not released:
            raise lease_lost(lease)
        await self._shown(lease.owner)

    async def orphans(self, limit: int) -> Sequence[SessionKey]:
        """See `Sharing.orphans`. Looked for in all partitions; they come in any order."""
        answers = await self._scripts.run_all(
            [
                (
                    number,
                    "orphans",
                    [self._keys.of_partition(number, name) for name in ("work", "alive")],
                    (limit,),
                )
                for number in range(PARTITIONS)
            ]
        )
        # so that several who look at once do not all claim the same
        self._random.shuffle(answers)
        found = [key_of(name.decode()) for answer in answers for name in answer]
        return found[:limit]

    # --- letters and watchers

    async def signal(self, key: SessionKey, signal: Signal) -> bool:
        """See `Sharing.signal`."""
        names = self._keys.find(key)
        if names is None or not is_id(signal.turn_id):
            return False
        decided = signal.question if isinstance(signal, DecideCall) else ""
        left = await self._scripts.step(
            "signal",
            names,
            ("", 0, signal.turn_id, decided),
            _encode(signal),
            keys=(names.besides(signal.turn_id),),
        )
        return bool(left)

    async def inbox(self, lease: Lease, after: str) -> Inbox:
        """See `Sharing.inbox`. One round trip more if turns arrived."""
        place = place_of(after or None)
        names = self._keys.session(lease.key)
        answer = await self._scripts.step("inbox", names, (lease.owner, lease.epoch, place))
        if answer is None:
            self._ledger.let_go(lease)
            raise lease_lost(lease)
        await self._shown(lease.owner)
        watched, before, entries = answer
        letters = [Letter(str(at), _content(entry)) for at, entry in enumerate(entries, before + 1)]
        arrived = [
            each.content.turn_id for each in letters if isinstance(each.content, TurnArrived)
        ]
        kept = await self._turns_of(names, arrived) if arrived else {}
        turns = {turn_id: record_of(data) for turn_id, data in kept.items()}
        return Inbox(letters, turns, bool(watched))

    async def watch(self, key: SessionKey, owner: str) -> Cursor | None:
        """See `Sharing.watch`."""
        names = self._keys.find(key)
        if names is None:
            return None
        end = await self._scripts.step("watch", names, (owner, 0))
        return None if end is None else Cursor(*end)

    async def unwatch(self, key: SessionKey, owner: str) -> None:
        """See `Sharing.unwatch`."""
        names = self._keys.find(key)
        if names is not None:
            await self._scripts.step("unwatch", names, (owner, 0))


def _content(entry: bytes) -> TurnArrived | Signal:
    if entry.startswith(_ARRIVED):
        number, _, turn_id = entry[1:].decode().partition(":")
        return TurnArrived(turn_id, int(number))
    signal: Signal = _decode(entry)
    return signal
