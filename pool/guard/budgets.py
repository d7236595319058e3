"""Budgets: before a turn something is set aside, after it what was spent is counted.

All of it happens in the store's counters, so that turns that run at the same time, in any number of
processes, never get more than there is. What is set aside is used from then on: when its turn is
settled, what that spent takes its place. What nobody settles stays used; see
`pool.guard.budget_standing`.

Every step is one call of `Counters.count` and may be repeated: a turn is settled once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from pool.errors import BudgetExceeded, StoreUnavailable
from pool.guard.budget import SLOT_S, Budget, Grant, Line, Terms, lines_of, slot_of, terms_of
from pool.guard.budget_notices import BudgetNotice as BudgetNotice
from pool.guard.budget_notices import Outcome, amount, tell
from pool.guard.budget_standing import Account as Account
from pool.guard.budget_standing import Standing as Standing
from pool.guard.budget_standing import Standings
from pool.guard.budget_steps import Spent as Spent
from pool.guard.budget_steps import (
    recalled,
    reserved_once,
    reserving,
    settled_once,
    settling,
    shutting,
    told_once,
    turn_counter,
    with_model,
)
from pool.store.counters import Change, Counted, Counters
from pool.turn import Turn

# For how long it is known that a turn is settled: who lost the answer asks again before.
ONCE_S: Final = 600.0
# How often it is told, in seconds, that turns are above a limit that lets them through.
TELL_S: Final = 60.0
# How many kinds of turns, and how many limits, something is remembered of.
_KNOWN_MAX: Final = 10_000
# How soon to ask again when only turns that still run are in the way.
_SOON_S: Final = 2.0

Count = Callable[[Sequence[Change]], Awaitable[Counted]]

_log = structlog.get_logger("pool.guard.budgets")


class Budgets:
    """Sets aside and settles for the turns of one process. `listener` hears every notice; that a
    turn is settled is known for `once_s` seconds. If that is 0 nobody ever loses an answer: each
    step is made once, and it is not remembered at all which were.
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
        self._standings = Standings(counters, wall)
        # what was made out for turns that are alike; made anew when there are too many
        self._terms: dict[tuple[object, ...], Terms] = {}
        # the last alert of a limit that somebody has told, as an amount
        self._alerted: dict[tuple[str, int], int] = {}
        # when it was last told that turns are above a limit
        self._told: dict[tuple[Outcome, str], float] = {}

    def __repr__(self) -> str:
        return f"<Budgets {[budget.name for budget in self._budgets]}>"

    def grant_of(self, turn: Turn, max_tokens: int | None = None) -> Grant:
        """What is, or would be, set aside for a turn: from the turn and the configuration alone."""
        slot = slot_of(turn)
        day = int(turn.created_at // 86_400)
        key = (turn.tenant, turn.user, turn.agent, day, slot, max_tokens)
        terms = self._terms.get(key)
        if terms is None:
            if len(self._terms) >= _KNOWN_MAX:
                self._terms.clear()
            terms = self._terms[key] = terms_of(self._budgets, turn, max_tokens)
        until = float((slot + 1) * SLOT_S)
        return Grant(turn_id=turn.id, terms=terms, until=until, mark=terms.mark)

    async def reserve(
        self, turn: Turn, max_tokens: int | None = None, count: Count | None = None
    ) -> Grant:
        """Set something aside for a turn that is about to be accepted; `BudgetExceeded` if a budget
        that refuses has no room. `max_tokens`: how many its agent may answer with. `count` makes
        the changes, and perhaps more in the same step, in place of the store's own.

        `StoreUnavailable`: it may have been set aside, call again, or `void`.
        """
        grant = self.grant_of(turn, max_tokens)
        if not grant.terms.lines:
            return grant
        count = count or self._counters.count
        # limits that this turn may go above
        open_to: set[str] = set()
        while True:
            changes = reserving(grant, open_to)
            first = 0
            if self._once_s:
                changes = [reserved_once(grant), *changes]
                first = 1
            values, over = await count(changes)
            if over is None:
                for number, line in grant.terms.warned:
                    if values[first + 2 * number] > line.limit:
                        await self._tell_above("warned", turn, line)
                return grant
            if over < first:
                # that was done before, and its answer lost
                return recalled(self.grant_of(turn, max_tokens), values[0]) or grant
            line = grant.lines[(over - first) // 2]
            if line.budget.at_limit != "cheaper":
                raise self._refusal(turn, line, await self._standings.spent(line))
            open_to.add(line.key)
            if grant.model is None:
                grant = with_model(grant, line)
            await self._tell_above("cheaper", turn, line)

    async def void(self, turn: Turn, max_tokens: int | None = None) -> None:
        """Nobody knows whether something was set aside for a turn that will not run: give it back
        if it was, and see to it that it is not any more. May be repeated.
        """
        if not self.grant_of(turn, max_tokens).lines:
            return
        shut = shutting(turn.id, self._wall() + self._once_s)
        # the reservation may still be on its way: it comes too late then
        if (await self._counters.count(shut)).over is not None:
            grant = await self.recall(turn, max_tokens)
            if grant is not None:
                await self.settle(grant, Spent(0, 0))

    async def recall(self, turn: Turn, max_tokens: int | None = None) -> Grant | None:
        """The grant of a turn for which another process has set something aside; None if it is
        settled. If that process had other budgets, what it has set aside is not known here, and
        stays used.
        """
        grant = self.grant_of(turn, max_tokens)
        if not grant.lines or not self._once_s:
            return grant
        (value,) = await self._counters.counts([turn_counter(turn.id)])
        return recalled(grant, value)

    async def settle(
        self, grant: Grant, spent: Spent, agent: str = "", also: Sequence[Change] = ()
    ) -> Sequence[int] | None:
        """Count what a turn of this agent spent, and `also` these, in place of what was set aside
        for it; once, however often this is called within `once_s`. What `also` counts then; None if
        it was done before. `StoreUnavailable`: call again.

        Without a budget that the turn counts in nothing is counted.
        """
        lines = grant.terms.lines
        if not lines:
            return None
        # what somebody may have done before is forbidden, and with it the rest
        changes = [settled_once(grant, self._wall() + self._once_s)] if self._once_s else []
        first = len(changes)
        changes += settling(grant, spent)
        changes += also
        values, over = await self._counters.count(changes)
        if over is not None:
            return None
        for number, line in enumerate(lines):
            place = first + 2 * number
            # what is used is at least what is spent
            if line.alerts and values[place + 1] >= line.alerts[0][1]:
                await self._alert(agent, line, values[place])
        return values[len(values) - len(also) :]

    async def standing(self, turn: Turn) -> list[Standing]:
        """How all limits stand that a turn like this is under."""
        return await self._standings.of(self.grant_of(turn).lines)

    async def accounts(self, tenant: str | None, user: str, agents: Sequence[str]) -> list[Account]:
        """How all budgets stand that are about this tenant (None: any) and its user, about these
        agents, or about all.
        """
        now = self._wall()
        found = []
        for budget in self._budgets:
            subjects = budget.subjects(tenant, user, agents)
            for subject in subjects:
                lines = lines_of(budget, subject, now)
                found.append(Account(budget, subject, await self._standings.of(lines)))
            if not subjects and tenant is None:
                found.append(Account(budget, None, ()))
        return found

    def replace(self, budgets: Sequence[Budget]) -> None:
        """Go by other limits from now on. What was spent and set aside stays; the budgets are those
        that there were, by their names.
        """
        self._budgets = budgets
        self._terms.clear()

    # --- what is told

    def _refusal(self, turn: Turn, line: Line, spent: int) -> BudgetExceeded:
        tell(self._listener, turn.agent, "refused", line, spent)
        running = spent + line.estimate <= line.limit
        why = "what is left is set aside for turns that run" if running else "it is used up"
        return BudgetExceeded(
            f"the budget {line.budget.name} of {line.span.name} ({amount(line, line.limit)}) has "
            f"no room for another turn: {why}",
            retry_after_s=_SOON_S if running else max(1.0, line.span.ends - self._wall()),
        )

    async def _tell_above(self, outcome: Outcome, turn: Turn, line: Line) -> None:
        now = self._wall()
        if now < self._told.get((outcome, line.key), 0.0) + TELL_S:
            return
        if len(self._told) >= _KNOWN_MAX:
            self._told.clear()
        self._told[outcome, line.key] = now
        tell(self._listener, turn.agent, outcome, line, await self._standings.spent(line))

    async def _alert(self, agent: str, line: Line, settled: int) -> None:
        try:
            spent = settled + await self._standings.left(line)
            told = self._alerted.get((line.key, line.limit), 0)
            for percent, reached in line.alerts:
                if told < reached <= spent:
                    if (await self._counters.count([told_once(line, percent)])).over is None:
                        tell(self._listener, agent, "alert", line, spent, percent)
                    if len(self._alerted) >= _KNOWN_MAX:
                        self._alerted.clear()
                    self._alerted[line.key, line.limit] = reached
        except StoreUnavailable as error:
            # the turn is settled; with the next one it is looked at again
            _log.warning("alerts of a budget wait", budget=line.budget.name, error=error.code)
