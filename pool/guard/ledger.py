"""Rates, quotas, prices, budgets and usage as the engine asks for them: before a turn, after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import structlog
from msgspec import Struct

from pool.errors import ConfigError, RateLimited, StoreUnavailable
from pool.guard.budget import Budget, Grant
from pool.guard.budget_changes import BudgetChanges
from pool.guard.budgets import ONCE_S, BudgetNotice, Budgets, Spent
from pool.guard.prices import MICRO, Price, Prices, PriceTable, exact, usd_of, whole
from pool.guard.quota import Quota, QuotaLimits
from pool.guard.rates import RatedRequest, RateLimit, Rates, StoreWindows, Windows
from pool.guard.usage import ONCE_S as USAGE_ONCE_S
from pool.guard.usage import UsageBook, UsageConfig, count_of
from pool.guard.usage_batch import UsageBatch
from pool.store.base import Store
from pool.turn import Principal, Turn, Usage

# Asked again this soon, in seconds, a tenant may have a turn less running.
_SOON_S = 1.0
# Clocks differ by no more, in seconds.
_SKEW_S = 60.0
# No turn costs more.
_USD_MAX = 1e6

_log = structlog.get_logger("pool.guard.ledger")


class CostConfig(Struct, frozen=True, kw_only=True):
    """Limits, prices and budgets. As it is: nothing is limited, usage is counted."""

    rates: tuple[RateLimit, ...] = ()
    # turns of a tenant that wait or run in one process
    turns: QuotaLimits = QuotaLimits()
    # WebSocket and event stream connections of a tenant to one process
    connections: QuotaLimits = QuotaLimits()
    prices: Mapping[str, Price] = {}
    budgets: tuple[Budget, ...] = ()
    usage: UsageConfig = UsageConfig()

    def __post_init__(self) -> None:
        names = [budget.name for budget in self.budgets]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError("budget.name", name, "give each budget a name of its own")


class Ledger:
    """What a turn costs, and whether there is enough. One for each pool.

    `listener` hears what is told of budgets. `windows`: where rates are counted (default: in the
    store). `table`: prices besides the configured ones; `unknown` hears of models without one.
    """

    def __init__(
        self,
        config: CostConfig,
        *,
        store: Store,
        wall: Callable[[], float],
        listener: Callable[[BudgetNotice], None] | None = None,
        windows: Windows | None = None,
        table: PriceTable | None = None,
        unknown: Callable[[str], None] | None = None,
    ) -> None:
        self._counters = store
        self.prices = Prices(config.prices, table=table, unknown=unknown)
        self.connections = Quota(config.connections)
        self.turns = Quota(config.turns)
        of_tokens = any(rate.what == "tokens" for rate in config.rates)
        # whether answers may be lost: a store in memory answers at once, and there is nothing to
        # remember for who asks again; not so where tokens are counted elsewhere
        self.suspends = store.suspends or (windows is not None and of_tokens)
        once_s, usage_once_s = (ONCE_S, USAGE_ONCE_S) if self.suspends else (0.0, 0.0)
        # for how long what ends a turn may be repeated, in seconds
        self.once_s = once_s - _SKEW_S
        self.usage = UsageBook(store, wall=wall, config=config.usage, once_s=usage_once_s)
        self.budgets = Budgets(
            config.budgets, counters=store, wall=wall, listener=listener, once_s=once_s
        )
        # limits that operators have changed
        self.budget_changes = BudgetChanges(
            config.budgets, store, apply=self.budgets.replace, wall=wall
        )
        # of turns that are in no budget, and of all if the store is lost with the process anyway;
        # to be written every now and then
        self.batch = UsageBatch(self.usage)
        self._batches_all = not (store.durable or store.suspends)
        # whether requests are counted at all
        self.rated = bool(config.rates)
        # whether something is set aside for turns
        self.budgeted = bool(config.budgets)
        # whether nothing limits turns
        self.open = not self.budgeted and config.turns == QuotaLimits()
        # whether the end of a turn takes no call of the store of its own
        self.settles_alone = not (self.budgeted or of_tokens)
        self._rates = Rates(config.rates, windows=windows or StoreWindows(store), wall=wall)
        # whether rates are counted where budgets are, and so in one step with them
        self._rates_here = windows is None
        # what was granted here and has not been settled, by turn; None: there are no budgets
        self._grants: dict[str, Grant | None] = {}

    def __repr__(self) -> str:
        return f"<Ledger [{len(self._grants)} granted] {self.budgets!r} {self._rates!r}>"

    async def start(self) -> None:
        """Follow what operators change, if there is something that they can."""
        await self.budget_changes.start()

    async def stop(self) -> None:
        """Follow it no more."""
        await self.budget_changes.stop()

    def request(self, principal: Principal) -> RatedRequest | None:
        """A request that is to be counted, whatever it asks for. None: there are no rates."""
        return self._rates.request(principal)

    def check(self, request: RatedRequest) -> None:
        """`RateLimited` if there is no room for a request, as far as is known here."""
        self._rates.check(request)

    async def count_request(self, principal: Principal, request: RatedRequest | None) -> None:
        """Count what asks for no turn: `request`, or if None one of the principal's.
        `RateLimited`, `StoreUnavailable`.
        """
        request = request or self.request(principal)
        if request is not None:
            self.check(request)
            await self.count(request)

    async def count(self, request: RatedRequest) -> None:
        """Count a request that asks for no turn, or that was refused before `admit` counted it;
        `RateLimited`, `StoreUnavailable`.
        """
        if self._rates_here:
            await self._rates.count_with(request, (), self._counters)
        else:
            await self._rates.count(request)

    async def admit(
        self, turn: Turn, max_tokens: int | None = None, request: RatedRequest | None = None
    ) -> Grant | None:
        """Set aside what a turn needs, before the store accepts it, and count its request in the
        same step; `RateLimited` (also: its tenant has all the turns that it may), `BudgetExceeded`,
        `StoreUnavailable`. None: there are no budgets.

        A request that is refused may still be `open`: it has to be counted then.

        Either `settle` or `withdraw` follows; after `StoreUnavailable`, or when whoever waits for
        this has left, `void`. `max_tokens`: how many its agent may answer with.
        """
        if not self.turns.take(turn.tenant):
            raise RateLimited(
                "your tenant has as many turns waiting and running here as it may",
                retry_after_s=_SOON_S,
            )
        try:
            grant = await self._reserve(turn, max_tokens, request)
        except BaseException:
            self.turns.give(turn.tenant)
            raise
        self._grants[turn.id] = grant
        return grant

    async def _reserve(
        self, turn: Turn, max_tokens: int | None, request: RatedRequest | None
    ) -> Grant | None:
        if not self.budgeted:
            if request is not None:
                await self.count(request)
            return None
        count = self._counters.count
        if request is not None and self._rates_here:
            count = partial(self._rates.count_with, request, counters=self._counters)
        elif request is not None:
            await self.count(request)
        grant = await self.budgets.reserve(turn, max_tokens, count)
        if request is not None and request.open and not grant.terms.lines:
            # no budget is about the turn
            await self.count(request)
        return grant

    async def void(self, turn: Turn, max_tokens: int | None = None) -> None:
        """Nobody knows what became of `admit`, and the turn will not run. May be repeated after
        `StoreUnavailable`.
        """
        await self.budgets.void(turn, max_tokens)

    async def withdraw(self, turn: Turn) -> None:
        """A turn that was admitted was not accepted: nothing was spent. May be repeated for
        `once_s`.
        """
        grant = self._grants.get(turn.id)
        if grant is not None:
            await self.budgets.settle(grant, Spent(0, 0), turn.agent)
        self.let_go(turn)

    def let_go(self, turn: Turn) -> None:
        """The turn is another process's now, or settled: it is not counted here any more."""
        if turn.id in self._grants:
            del self._grants[turn.id]
            self.turns.give(turn.tenant)

    def price(self, usage: Usage) -> None:
        """Put what it cost into a turn's usage, unless its agent has; None if that is not known.
        To be called before its end is stored.
        """
        if usage.cost_usd is None and (usage.input_tokens or usage.output_tokens):
            cost = self.prices.cost_of(usage)
            usage.cost_usd = None if cost is None else usd_of(cost)

    def note(self, turn: Turn) -> None:
        """Count what an ended and priced turn used, where that takes no call of the store."""
        self.batch.add(turn, micro_of(turn.usage))
        self.let_go(turn)

    async def settle(self, turn: Turn, max_tokens: int | None = None) -> None:
        """Count what an ended and priced turn used, whichever process admitted it. May be repeated
        for `once_s` after `StoreUnavailable`; `max_tokens` as for `admit`.
        """
        spent = spent_by(turn)
        grant = self._grants.get(turn.id) or await self.budgets.recall(turn, max_tokens)
        if grant is not None and grant.lines:
            await self._settle(turn, grant, spent)
        elif grant is not None:
            self.batch.add(turn, spent.micro)
            await self._charge(turn, spent.tokens)
        self.let_go(turn)

    async def _settle(self, turn: Turn, grant: Grant, spent: Spent) -> None:
        charges = self._rates.charging(turn, spent.tokens) if self._rates_here else ()
        also = [window.change(tokens) for window, tokens in charges]
        if not self._batches_all:
            also += await self.usage.changes(self.usage.entry(turn, spent.micro))
        counts = await self.budgets.settle(grant, spent, turn.agent, also)
        if counts is None:
            return
        if self._batches_all:
            self.batch.add(turn, spent.micro)
        if charges:
            await self._rates.carry(charges, counts[: len(charges)])
        elif not self._rates_here:
            await self._charge(turn, spent.tokens)

    async def _charge(self, turn: Turn, tokens: int) -> None:
        # not again: nobody knows whether they are counted, and the turn itself is
        try:
            await self._rates.charge(turn, tokens)
        except StoreUnavailable as error:
            _log.warning("tokens of a turn are forgiven", turn_id=turn.id, error=error.code)


def spent_by(turn: Turn) -> Spent:
    """What an ended and priced turn spent. If it asked a model and was cut off, or nobody said how
    many tokens that took, it was that at least; unless all say that they did nothing for it.
    """
    usage = turn.usage
    tokens = count_of(usage.input_tokens) + count_of(usage.output_tokens)
    whole = turn.state == "completed" and tokens
    nothing = usage.cost_usd == 0.0 and not tokens
    at_least = usage.requests > 0 and not (whole or nothing)
    return Spent(tokens, micro_of(usage), at_least)


def micro_of(usage: Usage) -> int | None:
    """The cost of a turn in whole micro-USD; None: not known, or its agent says what is no cost.
    What has asked no model and used no tokens costs nothing.
    """
    if usage.cost_usd is None and not (usage.input_tokens or usage.output_tokens or usage.requests):
        return 0
    if usage.cost_usd is None or not 0 <= usage.cost_usd <= _USD_MAX:
        return None
    return whole(exact(usage.cost_usd) * MICRO)
