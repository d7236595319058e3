"""A budget that simulated turns are under, and what must be true of it (invariant 19)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

from pool.guard.budget import Budget
from pool.guard.budgets import Budgets
from pool.guard.ledger import CostConfig
from pool.store.base import Store
from pool.turn import Turn, TurnRequest

# What is set aside for a turn, in tokens, and steps of agents that use no more than that in all the
# attempts that there may be.
SHARE: Final = 100
SPENDS: Final = ("spend=10", "spend=30", "spend=30")


class Purse:
    """What each tenant may spend. `wrong` is told of what must not happen."""

    def __init__(
        self,
        random: Random,
        store: Store,
        *,
        wall: Callable[[], float],
        wrong: Callable[[int, str], None],
    ) -> None:
        self.limit = SHARE * random.choice([1, 2, 5, 8])
        budget = Budget(name="sim", scope="tenant", tokens=self.limit, reserve_tokens=SHARE)
        self.cost = CostConfig(budgets=(budget,))
        self._budgets = Budgets([budget], counters=store, wall=wall)
        # as it will be seen when no turn of now runs any more
        self._later = Budgets([budget], counters=store, wall=lambda: wall() + 2 * 86_400.0)
        self._wall = wall
        self._wrong = wrong

    async def look(self, tenants: Iterable[str]) -> None:
        """At no time is more spent and set aside than there is."""
        for tenant in tenants:
            spent, reserved = await self._standing(tenant, self._budgets)
            if not 0 <= spent <= spent + reserved <= self.limit:
                self._wrong(19, f"{tenant}: {spent} spent, {reserved} set aside of {self.limit}")

    async def audit(
        self, tenant: str, turns: Sequence[Turn], *, counted: bool, settled: bool
    ) -> None:
        """What a tenant's turns used together is within the limit. It is what was spent if no
        process died with what it had not `counted`; else it will be no more than what was spent,
        when what dead processes have set aside counts as that. Nothing is set aside any more if
        nobody is in doubt about any turn (`settled`).
        """
        used = sum(map(_charged, turns))
        spent, reserved = await self._standing(tenant, self._budgets)
        in_the_end, _ = await self._standing(tenant, self._later)
        if not spent <= used <= in_the_end <= self.limit:
            self._wrong(
                19, f"{tenant}: {used} used, {spent} spent, then {in_the_end}, of {self.limit}"
            )
        if counted and spent != used:
            self._wrong(19, f"{tenant}: {used} used, {spent} spent")
        if settled and reserved:
            self._wrong(19, f"{tenant}: {reserved} still set aside")

    async def _standing(self, tenant: str, budgets: Budgets) -> tuple[int, int]:
        turn = Turn(
            id="probe",
            tenant=tenant,
            user="",
            session_id="probe",
            agent="alpha",
            request=TurnRequest(input="0"),
            created_at=self._wall(),
        )
        (line,) = await budgets.standing(turn)
        return line.spent, line.reserved


def _charged(turn: Turn) -> int:
    """What a turn is to be charged with: what it used; all that was set aside, if it was cut off
    after it had asked a model.
    """
    usage = turn.usage
    if usage.requests and turn.state != "completed":
        return max(SHARE, usage.input_tokens)
    return usage.input_tokens
