"""What a Redis store does behind its callers' backs, so that nothing grows without bounds.

Sessions that have run for a while are brought within their limits when a commit says that it is
time. Names of sessions that have expired are taken out of their tenants' lists, some at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any, Final

import structlog

from pool.errors import PoolError
from pool.ids import PARTITIONS
from pool.store.base import SessionKey
from pool.store.redis_keys import KeySpace, SessionNames, key_of
from pool.store.redis_ledger import Ledger
from pool.store.redis_scripts import Call, Scripts

_log = structlog.get_logger("pool.store.redis")

# How often a part of the lists is looked through, in ticks; of how many tenants, how many names.
_SWEEP_TICKS: Final = 10
_SWEEP_TENANTS: Final = 32
_SWEEP_NAMES: Final = 256
# Sessions that wait for their upkeep; a commit will name them again.
_WAITING_MAX: Final = 1_000


class Upkeep:
    """The housekeeping of one store. Failures are logged: it is done another time."""

    def __init__(self, scripts: Scripts, keys: KeySpace, ledger: Ledger, random: Random) -> None:
        self._scripts = scripts
        self._ledger = ledger
        self._keys = keys
        self._waiting: dict[SessionKey, None] = {}
        self._keeping: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._ticks = random.randrange(_SWEEP_TICKS)
        self._round: Iterator[int] = iter(())
        self._random = random

    def soon(self, key: SessionKey) -> None:
        """Bring a session within its limits, soon."""
        if len(self._waiting) < _WAITING_MAX:
            self._waiting[key] = None
        if self._keeping is None:
            self._keeping = self._begin(self._keep_all())

    def tick(self) -> None:
        """Called about ten times a second."""
        self._ticks = (self._ticks + 1) % _SWEEP_TICKS
        if self._ticks == 0 and self._sweeping is None:
            self._sweeping = self._begin(self._sweep())

    async def close(self) -> None:
        """Stop what is going on."""
        tasks = [task for task in (self._keeping, self._sweeping) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(self._logged(work), name="upkeep of Redis")

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except PoolError as error:
            _log.warning("upkeep of the store is put off", error=error.code, detail=error.detail)
        finally:
            task = asyncio.current_task()
            if task is self._keeping:
                self._keeping = None
            if task is self._sweeping:
                self._sweeping = None

    # --- sessions

    async def _keep_all(self) -> None:
        while self._waiting:
            key = next(iter(self._waiting))
            del self._waiting[key]
            await self.keep(key)

    async def keep(self, key: SessionKey) -> tuple[int, int] | None:
        """Bring a session within its limits; how many turns and batches of events were dropped.

        None: it was used meanwhile, and its next commit will ask again.
        """
        names = self._keys.session(key)
        ids = await self._scripts.command(names.partition, "LRANGE", names.ids, 0, -1)
        of_partition = (f"{names.head}{name}" for name in ("hooks", "tries", "dead"))
        keys = (*of_partition, *(names.turn(each.decode()) for each in ids))
        answer = await self._scripts.step("upkeep", names, ("", 0, key.tenant), keys=keys)
        return None if answer is None else (answer[0], answer[1])

    # --- lists

    async def _sweep(self) -> None:
        """Look through some lists of the partition whose turn it is."""
        partition = next(self._round, None)
        if partition is None:
            # everybody begins somewhere else
            first = self._random.randrange(PARTITIONS)
            self._round = (number % PARTITIONS for number in range(first, first + PARTITIONS))
            return
        for key in await self._ledger.look(partition):
            _log.warning("its holder does not know of a session; offered", session_id=key.id)
        await self.sweep(partition)

    async def sweep(self, partition: int) -> int:
        """Forget what is left of sessions of a partition that have expired; how many there were.

        Looks at a bounded number of names, drawn by lot: lists may be long, and many.
        """
        tenants = self._keys.of_partition(partition, "tenants")
        drawn = await self._scripts.command(partition, "SRANDMEMBER", tenants, _SWEEP_TENANTS)
        names = _SWEEP_NAMES // max(1, len(drawn))
        lists = await self._scripts.command_all(
            [
                (partition, ("ZRANDMEMBER", self._keys.index(partition, each.decode()), names))
                for each in drawn
            ]
        )
        sessions = [
            self._keys.session(SessionKey(tenant.decode(), name.decode()))
            for tenant, listed in zip(drawn, lists, strict=True)
            for name in listed
        ]
        there = await self._scripts.command_all(
            [(partition, ("EXISTS", each.session)) for each in sessions]
        )
        gone = [each for each, exists in zip(sessions, there, strict=True) if not exists]
        return sum(await self._scripts.run_all([_unlist(each) for each in gone]))


def _unlist(names: SessionNames) -> Call:
    tenant, session_id = key_of(names.name)
    return names.partition, "unlist", (*names.listing, *names.own), (tenant, session_id)
