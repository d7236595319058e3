"""The webhooks that a Redis store remembers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from pool.ids import PARTITIONS
from pool.store.outbox import Delivery
from pool.store.redis_part import RedisPart

# How often it is tried again for what others took meanwhile.
_TRIES: Final = 10


class _Due(NamedTuple):
    at: float
    partition: int
    turn_id: bytes


class RedisOutbox(RedisPart):
    """The part of a Redis store that remembers webhooks."""

    async def take_deliveries(self, limit: int, hold_s: float) -> Sequence[Delivery]:
        """See `Outbox.take_deliveries`. What is due is looked for everywhere, and then taken."""
        found: dict[str, Delivery] = {}
        for _ in range(_TRIES):
            due = [each for each in await self._due(limit) if each.turn_id.decode() not in found]
            taken = await self._take(due[: limit - len(found)], hold_s)
            found |= {delivery.turn_id: delivery for delivery in taken}
            # another may have been quicker, and there may be more
            if len(taken) == len(due) or len(found) == limit:
                break
        return list(found.values())

    async def _due(self, limit: int) -> Sequence[_Due]:
        """The oldest of those that are due."""
        answers = await self._scripts.run_all(
            [
                (number, "due", (self._keys.of_partition(number, "hooks"),), (limit,))
                for number in range(PARTITIONS)
            ]
        )
        due = sorted(
            _Due(float(at), number, turn_id)
            for number, answer in enumerate(answers)
            for turn_id, at in zip(answer[::2], answer[1::2], strict=True)
        )
        return due[:limit]

    async def _take(self, due: Sequence[_Due], hold_s: float) -> Sequence[Delivery]:
        """Those that nobody else has taken meanwhile."""
        places = {turn_id: place for place, (_, _, turn_id) in enumerate(due)}
        taken = await self._scripts.run_all(
            [
                (
                    number,
                    "take",
                    self._hooks(number),
                    (int(hold_s * 1000), *(each for _, home, each in due if home == number)),
                )
                for number in sorted({number for _, number, _ in due})
            ]
        )
        found = [
            (turn_id, int(tries))
            for answer in taken
            for turn_id, tries in zip(answer[::2], answer[1::2], strict=True)
        ]
        found.sort(key=lambda entry: places[entry[0]])
        return [Delivery(turn_id.decode(), tries) for turn_id, tries in found]

    async def put_off(self, turn_id: str, delay_s: float) -> None:
        """See `Outbox.put_off`."""
        home = self._keys.turn(turn_id)
        if home is not None:
            words = (turn_id, int(delay_s * 1000))
            await self._scripts.run(home[0], "put_off", self._hooks(home[0]), words)

    async def settle(self, turn_id: str) -> None:
        """See `Outbox.settle`."""
        home = self._keys.turn(turn_id)
        if home is not None:
            await self._scripts.run(home[0], "settle", self._hooks(home[0]), (turn_id,))

    def _hooks(self, number: int) -> list[str]:
        return [self._keys.of_partition(number, name) for name in ("hooks", "tries")]
