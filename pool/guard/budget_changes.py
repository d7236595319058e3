"""Limits of budgets that operators have changed, in every process of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from pool.errors import InvalidRequest, NotFound
from pool.guard.budget import Budget
from pool.guard.looking import Looking
from pool.store.cabinet import Cabinet, Document

KIND: Final = "budget"
TOKENS_MAX: Final = 10**15
USD_MIN: Final = 1e-6
USD_MAX: Final = 1e9
_PAGE: Final = 1_000


class BudgetChange(Struct, frozen=True, kw_only=True):
    """Other limits of a budget than its configuration has (None: not another one). `since` is in
    seconds since the epoch.
    """

    name: str
    tokens: int | None = None
    usd: float | None = None
    since: float = 0.0

    def over(self, before: BudgetChange) -> BudgetChange:
        """This change, with the limits of an earlier one where it has none."""
        return replace(
            self,
            tokens=before.tokens if self.tokens is None else self.tokens,
            usd=before.usd if self.usd is None else self.usd,
        )

    def applied(self, budget: Budget) -> Budget:
        """The budget with these limits; one that it does not have in its configuration it does not
        get. What is set aside for a turn is no more than the limit.
        """
        tokens, usd = budget.tokens, budget.usd
        if tokens is not None and self.tokens is not None:
            tokens = self.tokens
        if usd is not None and self.usd is not None:
            usd = self.usd
        return replace(
            budget,
            tokens=tokens,
            usd=usd,
            reserve_tokens=_least(budget.reserve_tokens, tokens),
            reserve_usd=_least(budget.reserve_usd, usd),
        )


class BudgetChanges:
    """Knows the limits that operators have set, at most a second late while it runs.

    `configured`: all budgets, as the configuration has them. `apply` is called with them as they
    are now, whenever that has changed.
    """

    def __init__(
        self,
        configured: Sequence[Budget],
        cabinet: Cabinet,
        *,
        apply: Callable[[Sequence[Budget]], None],
        wall: Callable[[], float] = time,
    ) -> None:
        self.configured: Mapping[str, Budget] = {budget.name: budget for budget in configured}
        self._cabinet = cabinet
        self._apply = apply
        self._wall = wall
        self._changes = -1
        # one after the other: what was read earlier is not gone by later
        self._following = asyncio.Lock()
        self._looking = Looking(
            self.refresh, name="budgets", away="it is not known which budgets have other limits"
        )

    def __repr__(self) -> str:
        return f"<BudgetChanges of {list(self.configured)}>"

    # --- what an operator does

    async def set(
        self, name: str, *, tokens: int | None = None, usd: float | None = None
    ) -> BudgetChange:
        """Give a budget other limits from now on, here at once; None leaves one as it is.
        `NotFound`, `InvalidRequest`.
        """
        budget = self._known(name)
        _check(budget, tokens, usd)
        change = BudgetChange(name=name, tokens=tokens, usd=usd, since=self._wall())
        change = await self._keep(change)
        await self.refresh()
        return change

    async def unset(self, name: str) -> bool:
        """Go by the configuration again; False if nothing was changed. `NotFound`."""
        self._known(name)
        removed = await self._cabinet.remove(KIND, name)
        await self.refresh()
        return removed

    async def list(self) -> Sequence[BudgetChange]:
        """All changes, by the names of the budgets; also of budgets that are configured no more."""
        found: list[BudgetChange] = []
        after: str | None = None
        while True:
            documents, after = await self._cabinet.documents(KIND, after, _PAGE)
            found += [_decode(each.data) for each in documents]
            if after is None:
                return found

    # --- what a pool does

    async def refresh(self) -> None:
        """Follow the store."""
        async with self._following:
            changes = await self._cabinet.changes(KIND)
            if changes == self._changes:
                return
            budgets = dict(self.configured)
            for change in await self.list():
                if change.name in budgets:
                    budgets[change.name] = change.applied(budgets[change.name])
            self._apply(tuple(budgets.values()))
            self._changes = changes

    async def start(self) -> None:
        """Look at once, then every second, if there are budgets."""
        if self.configured:
            await self._looking.start()

    async def stop(self) -> None:
        """Look no more."""
        await self._looking.stop()

    async def _keep(self, change: BudgetChange) -> BudgetChange:
        """Keep a change with what it leaves as it was, also if that is changed meanwhile."""
        while True:
            before = await self._cabinet.get(KIND, change.name)
            whole = change if before is None else change.over(_decode(before))
            document = Document(change.name, msgspec.json.encode(whole))
            if await self._cabinet.replace(KIND, before, document):
                return whole

    def _known(self, name: str) -> Budget:
        budget = self.configured.get(name)
        if budget is None:
            names = ", ".join(self.configured) or "none"
            raise NotFound(f"there is no budget {name}; there is: {names}")
        return budget


def _check(budget: Budget, tokens: int | None, usd: float | None) -> None:
    if tokens is None and usd is None:
        raise InvalidRequest("give tokens, usd or both")
    if tokens is not None and not 1 <= tokens <= TOKENS_MAX:
        raise InvalidRequest(f"tokens must be 1 to {TOKENS_MAX}", field="tokens")
    if usd is not None and not USD_MIN <= usd <= USD_MAX:
        raise InvalidRequest(f"usd must be {USD_MIN:f} to {USD_MAX:.0f}", field="usd")
    for unit, given, has in (("tokens", tokens, budget.tokens), ("usd", usd, budget.usd)):
        if given is not None and has is None:
            raise InvalidRequest(
                f"budget {budget.name} has no limit of {unit} in its configuration: give it one",
                field=unit,
            )


def _least(reserve: float | None, limit: float | None) -> float | None:
    return reserve if reserve is None or limit is None else min(reserve, limit)


_decode: Final = msgspec.json.Decoder(BudgetChange).decode
