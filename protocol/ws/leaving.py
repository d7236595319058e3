"""Turns that end with the connection that submitted them (`on_disconnect: cancel`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from pool import AgentPool
from pool.asking import Acceptance
from pool.errors import NotFound, PoolError
from pool.turn import Principal, Turn

_log = structlog.get_logger("protocol.ws")

# Runs something that outlives the connection it is about.
Run = Callable[[Coroutine[Any, Any, None]], None]


class Leaving:
    """The unfinished turns that are to be cancelled when their submitter leaves."""

    __slots__ = ("_pool", "_principal", "_run", "_turns")

    def __init__(self, pool: AgentPool, principal: Principal, run: Run) -> None:
        self._pool = pool
        self._principal = principal
        self._run = run
        self._turns: dict[str, None] = {}

    async def accepted(self, accept: Coroutine[Any, Any, Acceptance]) -> Turn:
        """Wait for a turn to be accepted, and note it. A submitter who leaves before the pool has
        answered has its turn cancelled all the same."""
        accepting = asyncio.ensure_future(accept)
        try:
            acceptance = await asyncio.shield(accepting)
        except asyncio.CancelledError:
            self._run(self._cancel_accepted(accepting))
            raise
        turn = acceptance.turn
        if acceptance.new and not turn.ended:
            self._turns[turn.id] = None
        return turn

    def ended(self, turn_id: str) -> None:
        """A turn has ended by itself."""
        self._turns.pop(turn_id, None)

    def leave(self) -> None:
        """The submitter has gone."""
        if self._turns:
            self._run(self._cancel(tuple(self._turns)))

    async def _cancel_accepted(self, accepting: asyncio.Future[Acceptance]) -> None:
        try:
            acceptance = await accepting
        except PoolError:
            # it was not accepted: there is nothing to cancel
            return
        if acceptance.new:
            await self._cancel((acceptance.id,))

    async def _cancel(self, turn_ids: tuple[str, ...]) -> None:
        # All at once: one after the other, the end of each would start the next in its session.
        await asyncio.gather(*map(self._cancel_one, turn_ids))

    async def _cancel_one(self, turn_id: str) -> None:
        try:
            await self._pool.cancel(turn_id, principal=self._principal)
        except NotFound:
            # its session was deleted meanwhile
            pass
        except PoolError as error:
            _log.warning("turn not cancelled", turn_id=turn_id, code=error.code)
