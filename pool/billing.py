"""What turns cost, where the engine meets the ledger: before a turn, while it runs, after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

import structlog

from pool.errors import BudgetExceeded, StoreUnavailable
from pool.guard.budget import Grant
from pool.guard.ledger import Ledger, micro_of
from pool.guard.rates import RatedRequest
from pool.live import LiveTurn, Stop
from pool.order import Spawn
from pool.turn import Turn, TurnError, Usage

# Usage is written this long, in seconds, after the first turn that is in none of the store's.
_WRITE_S: Final = 1.0
_CLOSE_S: Final = 2.0
_DAY_S: Final = 86_400.0

_log = structlog.get_logger("pool.billing")


class Billing:
    """Keeps the accounts of the turns of one pool. `stop` ends a turn that spends too much."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        spawn: Spawn,
        insist: Callable[[Callable[[], Awaitable[Any]]], Coroutine[Any, Any, Any]],
        stop: Callable[[LiveTurn, Stop], None],
        wall: Callable[[], float],
    ) -> None:
        self.ledger = ledger
        # how many tokens an agent may answer with, by its name
        self.max_tokens: Mapping[str, int | None] = {}
        self._spawn = spawn
        self._insist = insist
        self._stop = stop
        self._wall = wall
        # turns of others whose model is being found out
        self._recalling: dict[str, asyncio.Task[Any]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing = asyncio.Lock()
        self._forgotten_at = 0.0
        self._closed = False
        self._loop = asyncio.get_running_loop()

    # --- before a turn

    async def admit(self, turn: Turn, request: RatedRequest | None = None) -> Grant | None:
        """Set aside what a turn needs before the store accepts it, and count its request;
        `Refused`.
        """
        if self.ledger.open:
            if request is not None:
                await self.ledger.count(request)
            return None
        max_tokens = self.max_tokens.get(turn.agent)
        try:
            return await self.ledger.admit(turn, max_tokens, request)
        except (StoreUnavailable, asyncio.CancelledError):
            # the answer is lost, what was set aside may not be
            if self.ledger.suspends and self.ledger.budgeted:
                self._spawn(self._insist(lambda: self.ledger.void(turn, max_tokens)))
            raise

    def withdraw(self, turn: Turn) -> None:
        """The store has not accepted the turn: nothing will be spent."""
        if self.ledger.budgeted:
            self._see_to(turn, lambda: self.ledger.withdraw(turn))
        else:
            self.ledger.let_go(turn)

    def let_go(self, turn: Turn) -> None:
        """The turn is another process's, which settles it; or nobody knows whose."""
        self.ledger.let_go(turn)

    def recall(self, turn: LiveTurn) -> None:
        """A turn that another process admitted has the same limits here, and the same model; which
        that is takes a moment to find out.
        """
        if turn.grant is None and self.ledger.budgeted:
            record = turn.record
            max_tokens = self.max_tokens.get(record.agent)
            grant = turn.grant = self.ledger.budgets.grant_of(record, max_tokens)
            if any(line.budget.model is not None for line in grant.lines):
                recalling = self._spawn(self._insist(lambda: self._recall_model(turn, max_tokens)))
                self._recalling[turn.id] = recalling
                recalling.add_done_callback(partial(self._found_model, turn.id))

    def _found_model(self, turn_id: str, recalling: asyncio.Task[Any]) -> None:
        # it may have gone and come back meanwhile
        if self._recalling.get(turn_id) is recalling:
            del self._recalling[turn_id]

    async def recalled(self, turn: LiveTurn) -> None:
        """Wait until it is known which model a turn was granted, before it runs."""
        recalling = self._recalling.get(turn.id)
        if recalling is not None:
            await asyncio.shield(recalling)

    async def _recall_model(self, turn: LiveTurn, max_tokens: int | None) -> None:
        turn.grant = await self.ledger.budgets.recall(turn.record, max_tokens) or turn.grant

    # --- while it runs

    def check(self, turn: LiveTurn, usage: Usage) -> None:
        """Stop a turn that has used more than any turn may."""
        grant = turn.grant
        if grant is None or (grant.max_tokens is None and grant.max_micro is None):
            return
        used = Usage(usage.input_tokens, usage.output_tokens, models=usage.models)
        used.cost_usd = usage.cost_usd
        self.ledger.price(used)
        if grant.exceeded(usage.input_tokens + usage.output_tokens, micro_of(used)):
            detail = "the turn has used more tokens, or money, than one turn may"
            self._stop(turn, Stop("failed", error=TurnError(BudgetExceeded.code, detail)))

    # --- after it

    def ended(self, turn: LiveTurn) -> None:
        """Count a turn that has ended, and give back what was set aside for it."""
        record = turn.record
        if turn.failure is not None:
            # the store does not have its end, or nobody knows
            self.let_go(record)
            return
        if self.ledger.settles_alone:
            self.ledger.note(record)
        else:
            max_tokens = self.max_tokens.get(record.agent)
            self._see_to(record, lambda: self.ledger.settle(record, max_tokens))
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(_WRITE_S, self._ring)

    def _see_to(self, turn: Turn, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have something counted about a turn, for as long as it is known whether it was."""
        if not self.ledger.suspends:
            if not _at_once(turn, step()):
                self.let_go(turn)
            return
        until = self._wall() + self.ledger.once_s

        async def again() -> None:
            if self._wall() < until:
                await step()
                return
            self.let_go(turn)
            _log.error(
                "what a turn used is perhaps not counted; its budgets have paid what was set aside",
                turn_id=turn.id,
                remedy="see whether the store answers; the record of the turn has its usage",
            )

        self._spawn(self._insist(again))

    def _ring(self) -> None:
        self._timer = None
        self._spawn(self._write())

    async def _write(self) -> None:
        async with self._writing:
            await self._insist(self.ledger.batch.write)
            now = self._wall()
            if now >= self._forgotten_at + _DAY_S:
                self._forgotten_at = now
                await self._insist(self.ledger.usage.forget)

    async def close(self) -> None:
        """Write what is left, if the store takes it soon."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.ledger.batch:
            return
        try:
            async with asyncio.timeout(_CLOSE_S), self._writing:
                await self.ledger.batch.write()
        except (TimeoutError, StoreUnavailable) as error:
            _log.warning(
                "usage of the last turns is not counted",
                error=type(error).__name__,
                remedy="the records of the turns have it",
            )


def _at_once(turn: Turn, step: Coroutine[Any, Any, None]) -> bool:
    """Do what a store in memory is asked for: it never waits, and a task would cost more. Whether
    it was done.
    """
    try:
        step.send(None)
    except StopIteration:
        return True
    except StoreUnavailable as error:
        _log.error(
            "what a turn used is not counted; its budgets have paid what was set aside",
            turn_id=turn.id,
            error=error.code,
            remedy=error.detail,
        )
        return False
    step.close()
    raise RuntimeError("a store that says that it never suspends has suspended")
