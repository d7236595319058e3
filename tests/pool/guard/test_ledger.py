"""The ledger: everything that a turn costs, from its admission to its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date

import pytest

from pool.errors import BudgetExceeded, ConfigError, RateLimited, StoreUnavailable
from pool.guard.budget import Budget
from pool.guard.budget_steps import turn_counter
from pool.guard.ledger import CostConfig, Ledger, micro_of
from pool.guard.prices import Price
from pool.guard.quota import QuotaLimits
from pool.guard.rates import RateLimit, RateState, StoreWindows
from pool.guard.usage import Group
from pool.turn import ANYONE, Principal, State, Usage
from tests.contract.stores import Opening, every_store
from tests.support.spending import Clock, a_turn, memory
from tests.support.stores import FailingStore

TODAY = date(2026, 11, 21)
PRICED = CostConfig(
    prices={"m": Price(input=1, output=2)},
    budgets=(Budget(name="b", tokens=1_000, usd=0.01, reserve_tokens=500),),
    turns=QuotaLimits(each=2),
    rates=(RateLimit(amount=5), RateLimit(what="tokens", amount=700)),
)


def ledger_of(config: CostConfig = PRICED, *, durable: bool = False) -> tuple[Ledger, FailingStore]:
    """A ledger in a memory store of its own, which perhaps passes for one with a disk."""
    clock = Clock()
    store = FailingStore(memory(clock))
    store.durable = store.suspends = durable
    return Ledger(config, store=store, wall=clock), store


async def check(ledger: Ledger, principal: Principal) -> Sequence[RateState]:
    """Count a request that asks for no turn, and say how the principal stands."""
    request = ledger.request(principal)
    await ledger.count_request(principal, request)
    return () if request is None else request.states


async def usage_of(*ledgers: Ledger) -> list[Group]:
    """All that was used by now."""
    for ledger in ledgers:
        await ledger.batch.write()
    return await ledgers[0].usage.query(TODAY, TODAY, ())


def used() -> Usage:
    return Usage(input_tokens=400, output_tokens=300, requests=1, models=("m",))


async def test_a_turn_is_admitted_priced_and_settled() -> None:
    """Its cost is in its usage, in the budget, in the book, and its tokens in the rate."""
    ledger, _ = ledger_of()
    turn = a_turn()
    await check(ledger, Principal("acme", "ann"))
    grant = await ledger.admit(turn)
    turn.usage = used()

    ledger.price(turn.usage)
    await ledger.settle(turn)

    assert grant is not None and grant.reserved and turn.usage.cost_usd == 0.001
    assert [(each.spent, each.reserved) for each in await ledger.budgets.standing(turn)] == [
        (700, 0),
        (1_000, 0),
    ]
    (total,) = await usage_of(ledger)
    assert (total.totals.turns, total.totals.cost_micro) == (1, 1_000)
    with pytest.raises(RateLimited, match="tokens"):
        await check(ledger, Principal("acme", "ann"))
    assert ledger.turns.held("acme") == 0


@pytest.mark.parametrize(("durable", "rows"), [(True, 1), (False, 0)])
async def test_an_admission_and_an_end_cost_the_store_one_call_each(
    durable: bool, rows: int
) -> None:
    """Budgets and rates of tokens are counted in one step; usage as well, if the store is durable,
    else a moment later.
    """
    config = CostConfig(budgets=PRICED.budgets, rates=PRICED.rates)
    ledger, store = ledger_of(config, durable=durable)
    for _ in range(2):
        store.calls.clear()
        turn = a_turn()
        await ledger.admit(turn)
        turn.usage = Usage(input_tokens=1)
        await ledger.settle(turn)

    assert store.calls == ["count", "count"]
    assert len(await ledger.usage.query(TODAY, TODAY, ())) == rows
    assert (await usage_of(ledger))[0].totals.turns == 2


async def test_tokens_are_charged_though_the_answer_was_lost() -> None:
    """They are in the same step as the budget, once; what is above the limit is carried on."""
    budget = Budget(name="b", tokens=5_000)
    config = CostConfig(budgets=(budget,), rates=PRICED.rates)
    ledger, store = ledger_of(config, durable=True)
    ann, turn = Principal("acme", "ann"), a_turn()
    await ledger.admit(turn)
    turn.usage = Usage(input_tokens=699, requests=1, models=("m",))
    turn.state = "completed"
    store.lose("count")
    with pytest.raises(StoreUnavailable):
        await ledger.settle(turn)

    await ledger.settle(turn)

    assert (await check(ledger, ann))[1].left == 1
    more = a_turn()
    await ledger.admit(more)
    more.usage = Usage(input_tokens=702)
    await ledger.settle(more)
    with pytest.raises(RateLimited) as info:
        await check(ledger, ann)
    assert info.value.states[1].left == 0


async def test_tokens_are_counted_where_the_rates_are() -> None:
    """Not with the budgets, if rates have a place of their own."""
    clock = Clock()
    store, elsewhere = FailingStore(memory(clock)), FailingStore(memory(clock))
    ledger = Ledger(PRICED, store=store, wall=clock, windows=StoreWindows(elsewhere))
    turn = a_turn()
    await ledger.admit(turn)
    turn.usage = used()

    await ledger.settle(turn)

    with pytest.raises(RateLimited, match="tokens"):
        await check(ledger, Principal("acme", "ann"))
    assert elsewhere.calls == ["count", "count"]


@pytest.mark.parametrize(
    ("state", "usage", "charged"),
    [
        ("cancelled", Usage(requests=1), (500, 1_000)),
        ("cancelled", Usage(input_tokens=30, requests=2, models=("m",)), (500, 1_000)),
        ("failed", Usage(input_tokens=900, output_tokens=300, requests=2, models=("m",)), None),
        ("completed", Usage(requests=3, models=("m",)), (500, 1_000)),
        ("completed", Usage(input_tokens=30, requests=2, models=("m",)), (30, 30)),
        ("cancelled", Usage(input_tokens=30, models=("m",)), (30, 30)),
        ("cancelled", Usage(), (0, 0)),
        ("completed", Usage(models=("m",)), (0, 0)),
    ],
)
async def test_who_cuts_a_turn_off_does_not_have_it_for_nothing(
    state: State, usage: Usage, charged: tuple[int, int] | None
) -> None:
    """What its model had begun was paid for: what was set aside, at least. So is what a provider
    says nothing about. A turn that asked no model costs nothing, and its cost stays unsaid.
    """
    ledger, _ = ledger_of()
    turn = a_turn()
    await ledger.admit(turn)
    turn.state, turn.usage = state, usage

    ledger.price(turn.usage)
    await ledger.settle(turn)

    standing = [each.spent for each in await ledger.budgets.standing(turn)]
    assert standing == list(charged or (1_200, 1_500))
    (group,) = await usage_of(ledger)
    assert group.totals.unpriced == int(usage.requests > 0 and usage.cost_usd is None)
    if not (usage.input_tokens or usage.output_tokens):
        assert usage.cost_usd is None


async def test_an_admission_whose_answer_was_lost_takes_nothing() -> None:
    """When it is voided all is as before, also the tenant's place."""
    ledger, store = ledger_of(durable=True)
    turn = a_turn()
    store.lose("count")
    with pytest.raises(StoreUnavailable):
        await ledger.admit(turn)
    assert [each.reserved for each in await ledger.budgets.standing(turn)] == [500, 1_000]

    await ledger.void(turn)

    assert [each.reserved for each in await ledger.budgets.standing(turn)] == [0, 0]
    assert ledger.turns.held("acme") == 0


async def test_a_turn_that_was_not_accepted_costs_nothing() -> None:
    """What was set aside is given back, and so is its place; more often is as well."""
    ledger, _ = ledger_of()
    turn = a_turn()
    await ledger.admit(turn)

    await ledger.withdraw(turn)
    await ledger.withdraw(turn)

    assert {each.reserved for each in await ledger.budgets.standing(turn)} == {0}
    assert await usage_of(ledger) == []
    assert ledger.turns.held("acme") == 0


async def test_a_tenant_has_so_many_turns_here() -> None:
    """One more is refused, and one that the budget refuses takes no place."""
    ledger, _ = ledger_of()
    first, second = a_turn(), a_turn()
    await ledger.admit(first)
    await ledger.admit(second)
    with pytest.raises(RateLimited, match="as many turns") as info:
        await ledger.admit(a_turn())
    assert info.value.states == ()

    await ledger.withdraw(first)
    await ledger.admit(a_turn())
    await ledger.withdraw(second)
    full = a_turn(tenant="other")
    await ledger.admit(full)

    with pytest.raises(BudgetExceeded):
        await ledger.admit(a_turn(tenant="other"))
    assert ledger.turns.held("other") == 1


async def test_a_turn_that_moved_is_settled_where_it_ended() -> None:
    """The process that it left counts it no more, the other settles it from its record."""
    clock = Clock()
    store = FailingStore(memory(clock))
    store.suspends = True
    here, there = (Ledger(PRICED, store=store, wall=clock) for _ in range(2))
    turn = a_turn()
    await here.admit(turn)
    here.let_go(turn)
    assert here.turns.held("acme") == 0
    turn.usage = used()

    there.price(turn.usage)
    await there.settle(turn)
    await there.settle(turn)

    assert [(each.spent, each.reserved) for each in await here.budgets.standing(turn)] == [
        (700, 0),
        (1_000, 0),
    ]
    (total,) = await usage_of(there)
    assert total.totals.turns == 1


async def test_where_no_answer_is_lost_nothing_is_kept_of_single_turns() -> None:
    """Neither while they run nor after it: whoever gets one settles it as it was admitted."""
    ledger, store = ledger_of(CostConfig(budgets=PRICED.budgets))
    turn, moved = a_turn(), a_turn()
    for each in (turn, moved):
        await ledger.admit(each)
        assert await store.counts([turn_counter(each.id)]) == [0]
    ledger.let_go(moved)

    for each in (turn, moved):
        await ledger.settle(each)

    standing = await ledger.budgets.standing(turn)
    assert [(each.spent, each.reserved) for each in standing] == [(0, 0), (0, 0)]


async def test_settling_may_be_tried_again() -> None:
    """A store that was gone for a moment loses nothing and counts nothing twice."""
    ledger, store = ledger_of(durable=True)
    turn = a_turn()
    await ledger.admit(turn)
    turn.usage = used()
    ledger.price(turn.usage)
    store.fail("count", times=1)
    with pytest.raises(StoreUnavailable):
        await ledger.settle(turn)
    store.lose("count")
    with pytest.raises(StoreUnavailable):
        await ledger.settle(turn)

    await ledger.settle(turn)

    assert (await ledger.budgets.standing(turn))[0].spent == 700
    assert (await usage_of(ledger))[0].totals.turns == 1
    assert ledger.turns.held("acme") == 0


async def test_without_configuration_only_usage_is_counted() -> None:
    """Nothing is refused, and turns that end together cost the store one call."""
    ledger, store = ledger_of(CostConfig())
    await check(ledger, ANYONE)
    turn = a_turn()
    await ledger.admit(turn)
    assert store.calls == []

    await ledger.settle(turn)
    assert ledger.batch
    await ledger.batch.write()

    assert store.calls == ["put", "count"]
    assert repr(ledger) == "<Ledger [0 granted] <Budgets []> <Rates [], 0 full>>"


async def test_an_agent_may_say_itself_what_it_cost() -> None:
    """Its own figure stays; without it an unknown price is no figure at all."""
    ledger, _ = ledger_of()
    said, unknown = Usage(input_tokens=1, cost_usd=0.5), Usage(input_tokens=1, models=("x",))

    ledger.price(said)
    ledger.price(unknown)

    assert micro_of(said) == 500_000
    assert unknown.cost_usd is None and micro_of(unknown) is None


@pytest.mark.parametrize("cost_usd", [float("nan"), float("inf"), -1.0, 1e30])
async def test_what_an_agent_makes_up_harms_no_counter(cost_usd: float) -> None:
    """A cost that is none is not known; counts are cut to what can be."""
    ledger, _ = ledger_of()
    turn = a_turn()
    await ledger.admit(turn)
    turn.usage = Usage(input_tokens=-5, output_tokens=10**30, cost_usd=cost_usd)

    ledger.price(turn.usage)
    await ledger.settle(turn)

    tokens, money = await ledger.budgets.standing(turn)
    assert (tokens.spent, money.spent) == (10**12, 1_000)
    (total,) = await usage_of(ledger)
    assert (total.totals.input_tokens, total.totals.unpriced) == (0, 1)


def test_two_budgets_of_one_name_are_a_mistake() -> None:
    """They would count in one place."""
    with pytest.raises(ConfigError, match=r"budget\.name"):
        CostConfig(budgets=(Budget(name="b", tokens=1), Budget(name="b", usd=1.0)))


TOKENS = (RateLimit(who="tenant", what="tokens", amount=1_000),)


@pytest.mark.parametrize("how", ["fail", "lose"])
async def test_tokens_are_counted_once_or_forgiven(how: str) -> None:
    """A count whose answer was lost is not made again; and the turn itself is counted all the same,
    while the place where rates are counted is gone.
    """
    clock = Clock()
    store, elsewhere = FailingStore(memory(clock)), FailingStore(memory(clock))
    config = CostConfig(rates=TOKENS, prices=PRICED.prices)
    ledger = Ledger(config, store=store, wall=clock, windows=StoreWindows(elsewhere))
    turn = a_turn(usage=used())
    turn.state = "completed"
    await ledger.admit(turn)
    if how == "fail":
        elsewhere.fail("count", times=1)
    else:
        elsewhere.lose("count")

    await ledger.settle(turn)

    (state,) = await check(ledger, Principal("acme", "ann"))
    assert state.left == (1_000 if how == "fail" else 300)
    assert (await usage_of(ledger))[0].totals.turns == 1


# --- a request and what its turn sets aside


ONE_STEP = CostConfig(
    budgets=(Budget(name="b", tokens=1_000, reserve_tokens=500),),
    rates=(
        RateLimit(amount=3),
        RateLimit(who="tenant", amount=2),
        RateLimit(who="global", amount=9),
    ),
)
ANN = Principal("acme", "ann")


@every_store
async def test_a_request_is_counted_with_what_its_turn_sets_aside(opening: Opening) -> None:
    """In one step of the store."""
    async with opening() as (store, _):
        now = time.time()
        counting = FailingStore(store)
        ledger = Ledger(ONE_STEP, store=counting, wall=lambda: now)
        request = ledger.request(ANN)

        await ledger.admit(a_turn(at=now), None, request)

        assert counting.calls == ["count"]
        assert request is not None
        assert [state.left for state in request.states] == [2, 1, 8]


@every_store
async def test_a_request_too_many_sets_nothing_aside(opening: Opening) -> None:
    """Neither is it counted, nor has its tenant a turn more."""
    async with opening() as (store, _):
        now = time.time()
        ledger = Ledger(ONE_STEP, store=store, wall=lambda: now)
        requests = [ledger.request(ANN) for _ in range(3)]
        for request in requests[:2]:
            assert request is not None
            await ledger.count(request)

        with pytest.raises(RateLimited, match="your tenant") as info:
            await ledger.admit(a_turn(at=now), None, requests[2])

        assert [state.left for state in info.value.states] == [1, 0, 7]
        assert requests[2] is not None and not requests[2].open
        standing = await ledger.budgets.standing(a_turn(at=now))
        assert [(each.spent, each.reserved) for each in standing] == [(0, 0)]
        assert repr(ledger).startswith("<Ledger [0 granted]")


@every_store
async def test_a_request_that_no_budget_has_room_for_is_still_to_be_counted(
    opening: Opening,
) -> None:
    """Nothing was made of the one step; whoever refuses the request counts it then."""
    async with opening() as (store, _):
        now = time.time()
        budget = Budget(name="b", tokens=10, reserve_tokens=10)
        config = CostConfig(budgets=(budget,), rates=ONE_STEP.rates)
        ledger = Ledger(config, store=store, wall=lambda: now)
        first, second = ledger.request(ANN), ledger.request(ANN)
        await ledger.admit(a_turn(at=now), None, first)

        with pytest.raises(BudgetExceeded):
            await ledger.admit(a_turn(at=now), None, second)

        assert second is not None and second.open and second.states == []
        await ledger.count(second)
        assert [state.left for state in second.states] == [1, 0, 7]


async def test_a_turn_of_a_cheaper_model_is_one_request() -> None:
    """Though it is asked twice whether there is room for it."""
    soft = Budget(name="s", tokens=10, reserve_tokens=10, at_limit="cheaper", model="small")
    ledger, store = ledger_of(CostConfig(budgets=(soft,), rates=ONE_STEP.rates))
    await ledger.admit(a_turn())
    store.calls.clear()
    request = ledger.request(ANN)

    grant = await ledger.admit(a_turn(), None, request)

    assert grant is not None and grant.model == "small"
    assert request is not None
    assert [state.left for state in request.states] == [2, 1, 8]


@pytest.mark.parametrize(
    "budgets",
    [(), (Budget(name="b", scope="tenant", of="other", tokens=10),)],
    ids=["none", "other"],
)
async def test_a_request_counts_where_no_budget_is_about_its_turn(
    budgets: tuple[Budget, ...],
) -> None:
    """In a step of its own."""
    ledger, store = ledger_of(CostConfig(budgets=budgets, rates=ONE_STEP.rates))
    request = ledger.request(ANN)

    await ledger.admit(a_turn(), None, request)

    assert store.calls == ["count"]
    assert request is not None
    assert [state.left for state in request.states] == [2, 1, 8]


async def test_a_request_that_counts_elsewhere_is_counted_first() -> None:
    """If it is one too many the budgets are not asked."""
    clock = Clock()
    store, elsewhere = FailingStore(memory(clock)), FailingStore(memory(clock))
    config = CostConfig(budgets=ONE_STEP.budgets, rates=(RateLimit(amount=1),))
    ledger = Ledger(config, store=store, wall=clock, windows=StoreWindows(elsewhere))
    first, second = ledger.request(ANN), ledger.request(ANN)
    await ledger.admit(a_turn(), None, first)

    with pytest.raises(RateLimited):
        await ledger.admit(a_turn(), None, second)

    assert (store.calls, elsewhere.calls) == (["count"], ["count", "count"])
