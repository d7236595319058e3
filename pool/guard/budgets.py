"""Budgets: before a turn something is set aside, after it what was spent is counted.

All of it happens in the store's counters, so that turns that run at the same time, in any number of
processes, never get more than there is. What is set aside and not settled (its process died in
between) is given back after the hour in which its turn could run has ended, when somebody needs it:

1. the hour's gate is closed: nothing of that hour can be settled against what was set aside, and a
   turn that ends all the same is counted in full;
2. what is still set aside in the hour can now be read, for it changes no more;
3. it is given back, once: whoever is first.

Every step is one call of `Counters.count` and may be repeated: a turn is settled once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from pool.errors import BudgetExceeded
from pool.guard.budget import SHUT, SLOT_S, Budget, Grant, Line, Terms, terms_of
from pool.guard.budget_notices import BudgetNotice as BudgetNotice
from pool.guard.budget_notices import amount, tell
from pool.guard.budget_steps import Spent as Spent
from pool.guard.budget_steps import (
    closing,
    due,
    giving_back,
    refused_line,
    reserving,
    settling,
    turn_counter,
    values_of,
)
from pool.store.counters import Change, Counters
from pool.turn import Turn

# For how long it is known that a turn is settled: who lost the answer asks again before.
ONCE_S = 600.0
# How long after its deadline a turn may be settled against what was set aside, in seconds.
GRACE_S = 3_600.0
# How long after an hour it is looked through: clocks differ.
SKEW_S = 60.0
# How often one limit's hours are looked through for what was left behind.
SWEEP_S = 60.0
# How many kinds of turns are remembered with their limits.
_TERMS_MAX = 10_000
# How soon to ask again when only turns that still run are in the way.
_SOON_S = 2.0

_log = structlog.get_logger("pool.guard.budgets")


class Standing(NamedTuple):
    """How a limit stands: what turns have spent, and what running ones have set aside."""

    line: Line
    spent: int
    reserved: int


class Budgets:
    """Sets aside and settles for the turns of one process. `listener` hears every notice; that a
    turn is settled is known for `once_s` seconds.
    """

    def __init__(
        self,
        budgets: Sequence[Budget],
        *,
        counters: Counters,
        wall: Callable[[], float],
        listener: Callable[[BudgetNotice], None] | None = None,
        once_s: float = ONCE_S,
    ) -> None:
        self._budgets = budgets
        self._counters = counters
        self._wall = wall
        self._listener = listener
        self._once_s = once_s
        # what was made out for turns that are alike; made anew when there are too many
        self._terms: dict[tuple[object, ...], Terms] = {}
        # when the hours of a limit were last looked through
        self._swept: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Budgets {[budget.name for budget in self._budgets]}>"

    def grant_of(self, turn: Turn, max_tokens: int | None = None) -> Grant:
        """What is, or would be, set aside for a turn: from the turn and the configuration alone."""
        terms = self._terms_of(turn, max_tokens)
        until = turn.created_at + turn.request.deadline_s + GRACE_S
        slot = ceil(until / SLOT_S)
        return Grant(
            turn_id=turn.id,
            lines=terms.lines,
            until=until,
            slot=slot,
            mark=(terms.mark ^ slot) + 1 if terms.lines else 0,
            max_tokens=terms.max_tokens,
            max_micro=terms.max_micro,
        )

    async def reserve(self, turn: Turn, max_tokens: int | None = None) -> Grant:
        """Set something aside for a turn that is about to be accepted; `BudgetExceeded` if a budget
        that refuses has no room. `max_tokens`: how many its agent may answer with.
        """
        grant = self.grant_of(turn, max_tokens)
        # limits that this turn may go above
        open_to = {line.key for line in grant.lines if line.budget.at_limit == "warn"}
        swept: set[str] = set()
        model = None
        while grant.lines:
            changes = reserving(grant, open_to)
            counted = await self._counters.count(changes)
            line = refused_line(grant, counted.over)
            if line is None:
                await self._warn(turn, grant, values_of(changes, counted))
                break
            if line.key not in swept and await self._give_back(line):
                swept.add(line.key)
            elif line.budget.at_limit == "cheaper":
                open_to.add(line.key)
                model = model or line.budget.model
                tell(self._listener, turn.agent, "cheaper", line, await self._spent(line))
            else:
                raise self._refusal(turn, line, await self._spent(line))
        return grant if model is None else replace(grant, model=model)

    async def recall(self, turn: Turn, max_tokens: int | None = None) -> Grant | None:
        """The grant of a turn for which another process has set something aside; None if it is
        settled. If that process had other budgets, nothing of it is given back here (it is given
        back after its hour).
        """
        grant = self.grant_of(turn, max_tokens)
        if not grant.lines:
            return grant
        (mark,) = await self._counters.counts([turn_counter(turn.id)])
        if mark >= SHUT:
            return None
        return grant if mark == grant.mark else replace(grant, mark=mark, reserved=False)

    async def settle(
        self, grant: Grant, spent: Spent, agent: str = "", also: Sequence[Change] = ()
    ) -> bool:
        """Count what a turn of this agent spent, and `also` these, and give back what was set aside
        for it; once, however often this is called within `once_s`: whether it was now.
        `StoreUnavailable`: call again. Without a budget that the turn counts in nothing is counted.
        """
        if not grant.lines:
            return False
        known_until = self._wall() + self._once_s
        changes = settling(grant, spent, also, known_until)
        counted = await self._counters.count(changes)
        if grant.reserved and counted.over == 1:
            # its hour is over: what was set aside is given back by itself
            changes = settling(replace(grant, reserved=False), spent, also, known_until)
            counted = await self._counters.count(changes)
        if counted.over is None:
            self._alert(agent, grant, spent, values_of(changes, counted))
        return counted.over is None

    async def standing(self, turn: Turn) -> list[Standing]:
        """How all limits stand that a turn like this is under."""
        lines = self.grant_of(turn).lines
        names = [name for line in lines for name in (line.spent, line.used)]
        values = await self._counters.counts(names) if names else []
        return [
            Standing(line, spent, used - spent)
            for line, spent, used in zip(lines, values[::2], values[1::2], strict=True)
        ]

    def _terms_of(self, turn: Turn, max_tokens: int | None) -> Terms:
        day = int(turn.created_at // 86_400)
        key = (turn.tenant, turn.user, turn.agent, day, max_tokens)
        terms = self._terms.get(key)
        if terms is None:
            if len(self._terms) >= _TERMS_MAX:
                self._terms.clear()
            terms = self._terms[key] = terms_of(self._budgets, turn, max_tokens)
        return terms

    # --- what was left behind

    async def _give_back(self, line: Line) -> bool:
        """Give back what was set aside under a limit in hours that are over. Whether there was
        something.
        """
        now = self._wall()
        if now < self._swept.get(line.key, 0.0) + SWEEP_S:
            return False
        self._remember_sweep(line.key, now)
        first = int(line.span.begins // SLOT_S) + 1
        last = int((now - SKEW_S) // SLOT_S)
        slots = range(first, last + 1)
        if not slots:
            return False
        set_aside = await self._counters.counts([due(line, slot).name for slot in slots])
        left = [slot for slot, amount in zip(slots, set_aside, strict=True) if amount > 0]
        given = [await self._give_back_hour(line, slot) for slot in left]
        return any(given)

    async def _give_back_hour(self, line: Line, slot: int) -> bool:
        # forbidden if it is closed already, which is as well
        await self._counters.count(closing(slot))
        (left,) = await self._counters.counts([due(line, slot).name])
        if left <= 0:
            return False
        given = await self._counters.count(giving_back(line, slot, left))
        if given.over is not None:
            return False
        _log.warning(
            "a budget gets back what was set aside for turns that nobody settled",
            budget=line.budget.name,
            period=line.span.name,
            amount=amount(line, left),
        )
        return True

    def _remember_sweep(self, key: str, now: float) -> None:
        if len(self._swept) >= 10_000:
            self._swept = {each: at for each, at in self._swept.items() if now < at + SWEEP_S}
        self._swept[key] = now

    # --- what is told

    async def _spent(self, line: Line) -> int:
        return (await self._counters.counts([line.spent]))[0]

    async def _warn(self, turn: Turn, grant: Grant, values: Mapping[str, int]) -> None:
        for line in grant.lines:
            if line.budget.at_limit == "warn" and values[line.used] > line.limit:
                tell(self._listener, turn.agent, "warned", line, await self._spent(line))

    def _refusal(self, turn: Turn, line: Line, spent: int) -> BudgetExceeded:
        tell(self._listener, turn.agent, "refused", line, spent)
        running = spent + line.estimate <= line.limit
        why = "what is left is set aside for turns that run" if running else "it is used up"
        return BudgetExceeded(
            f"the budget {line.budget.name} of {line.span.name} ({amount(line, line.limit)}) has "
            f"no room for another turn: {why}",
            retry_after_s=_SOON_S if running else max(1.0, line.span.ends - self._wall()),
        )

    def _alert(self, agent: str, grant: Grant, spent: Spent, values: Mapping[str, int]) -> None:
        for line in grant.lines:
            after = values[line.spent]
            before = after - spent.under(line)
            for percent in line.budget.alerts:
                # the counter passes each place once: nobody else tells of it
                if 100 * before < percent * line.limit <= 100 * after:
                    tell(self._listener, agent, "alert", line, after, percent)
