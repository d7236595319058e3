"""Budgets in a store: never exceeded, settled once; what nobody settles is spent."""

from __future__ import annotations

import asyncio
import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.errors import BudgetExceeded, StoreUnavailable
from pool.guard.budget import SLOT_S, Budget, slot_of
from pool.guard.budget_steps import turn_counter
from pool.guard.budgets import TELL_S, BudgetNotice, Budgets, Spent
from pool.turn import Turn
from tests.contract.stores import Opening, every_store
from tests.support import SeededLoop, run_seeds
from tests.support.spending import NOON, Clock, Spenders, a_turn, memory
from tests.support.stores import FailingStore, YieldingStore

DAILY = Budget(name="daily", period="day", tokens=1_000, reserve_tokens=100)


def budgets_of(*budgets: Budget, clock: Clock | None = None) -> tuple[Budgets, list[BudgetNotice]]:
    """Budgets on a memory store of their own, and what is told of them."""
    clock, told = clock or Clock(), []  # type: ignore[var-annotated]
    return Budgets(budgets, counters=memory(clock), wall=clock, listener=told.append), told


async def spend(budgets: Budgets, tokens: int, micro: int | None = None, turn: Turn | None = None):
    """A turn from its beginning to its end."""
    turn = turn or a_turn()
    grant = await budgets.reserve(turn)
    await budgets.settle(grant, Spent(tokens, micro), turn.agent)
    return grant


async def stands(budgets: Budgets, turn: Turn | None = None) -> tuple[int, int]:
    """What was spent and is set aside under the first limit."""
    standing = (await budgets.standing(turn or a_turn()))[0]
    return standing.spent, standing.reserved


def seeded() -> Random:
    """The random source of the seeded loop that this runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SeededLoop)
    return Random(loop.seed)


# --- never exceeded (invariant 19)


@every_store
async def test_parallel_turns_never_exceed_a_budget(opening: Opening) -> None:
    """Of fifty turns in two processes at once only so many run as the budget has room for; when
    some have spent less than was set aside, others may run.
    """
    now = time.time()
    async with opening() as (store, _):
        spenders = Spenders(store, [DAILY], lambda: now)
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(spenders.spend(number, 100, now))

        assert (spenders.ran, spenders.refused) == (10, 40)
        for number in range(50):
            await spenders.spend(number, 100, now)
        assert spenders.spent == 1_000
        assert await stands(spenders.processes[0], a_turn(at=now)) == (1_000, 0)


@given(st.lists(st.integers(0, 100), min_size=50, max_size=50), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
async def test_whatever_turns_spend_a_budget_is_not_exceeded(
    spends: list[int], tenths: int
) -> None:
    """Fifty parallel turns that spend at most what was set aside for each stay within the limit,
    and nothing stays set aside.
    """
    limit = tenths * 100
    budget = Budget(name="b", tokens=limit, reserve_tokens=100)
    clock = Clock()
    spenders = Spenders(YieldingStore(memory(clock)), [budget], clock)

    await asyncio.gather(*(spenders.spend(number, each) for number, each in enumerate(spends)))

    assert spenders.spent <= limit
    assert spenders.ran + spenders.refused == 50
    assert await stands(spenders.processes[1]) == (spenders.spent, 0)


def test_no_order_of_events_exceeds_a_budget() -> None:
    """Under any interleaving of fifty turns of two processes the budget holds at every moment, and
    each alert is told once.
    """

    async def scenario() -> None:
        random = seeded()
        clock = Clock()
        store = YieldingStore(memory(clock), random.randrange(1000))
        spenders = Spenders(store, [DAILY], clock)

        async def watch() -> None:
            for _ in range(50):
                spent, reserved = await stands(spenders.processes[0])
                assert spent + reserved <= 1_000
                await asyncio.sleep(0)

        turns = [spenders.spend(number, random.randint(50, 100)) for number in range(50)]
        await asyncio.gather(watch(), *turns)

        assert await stands(spenders.processes[0]) == (spenders.spent, 0)
        told = [notice.percent for notice in spenders.notices if notice.outcome == "alert"]
        reached = [each for each in DAILY.alerts if each * 10 <= spenders.spent]
        assert sorted(told) == reached

    run_seeds(scenario, range(30))


async def test_a_turn_that_spends_more_than_was_set_aside_is_counted_in_full() -> None:
    """What is spent is spent: the next turn is refused."""
    budgets, _ = budgets_of(DAILY)

    await spend(budgets, 1_500)

    assert await stands(budgets) == (1_500, 0)
    with pytest.raises(BudgetExceeded):
        await budgets.reserve(a_turn())


# --- at the limit


async def test_a_full_budget_refuses_until_its_period_ends() -> None:
    """The error says which budget and how much it is; the next day there is room again."""
    budgets, told = budgets_of(DAILY)
    await spend(budgets, 1_000)

    with pytest.raises(
        BudgetExceeded, match=r"daily of 2026-11-21 \(1000 tokens\).*used up"
    ) as info:
        await budgets.reserve(a_turn())

    assert info.value.code == "budget_exceeded"
    assert info.value.retry_after_s == 12 * 3_600
    assert (told[-1].outcome, told[-1].spent, told[-1].limit) == ("refused", 1_000, 1_000)
    await spend(budgets, 1, turn=a_turn(at=NOON + 86_400))


async def test_running_turns_in_the_way_are_told_as_that() -> None:
    """Who is refused only because of what others have set aside may ask again soon."""
    budgets, _ = budgets_of(Budget(name="b", tokens=100, reserve_tokens=100))
    await budgets.reserve(a_turn())

    with pytest.raises(BudgetExceeded, match="set aside for turns that run") as info:
        await budgets.reserve(a_turn())

    assert info.value.retry_after_s is not None and info.value.retry_after_s < 10


async def test_a_budget_may_only_warn() -> None:
    """Turns above its limit run; that is told, and no more than once a minute."""
    clock = Clock()
    budgets, told = budgets_of(Budget(name="b", tokens=100, at_limit="warn"), clock=clock)
    await spend(budgets, 200)

    for _ in range(3):
        await spend(budgets, 5)

    assert [notice.percent for notice in told if notice.outcome == "alert"] == [50, 75, 90, 100]
    assert [notice.outcome for notice in told].count("warned") == 1
    assert await stands(budgets) == (215, 0)
    clock.now += TELL_S
    await spend(budgets, 5)
    assert told[-1].outcome == "warned" and told[-1].spent == 215


async def test_a_budget_may_send_turns_to_a_cheaper_model() -> None:
    """Above one limit turns get another model, above a second one they are refused."""
    cheaper = Budget(name="soft", tokens=100, at_limit="cheaper", model="small")
    budgets, told = budgets_of(cheaper, Budget(name="hard", tokens=200, reserve_tokens=50))
    assert (await spend(budgets, 100)).model is None

    assert (await spend(budgets, 60)).model == "small"

    assert told[-1].outcome == "alert"
    assert "cheaper" in [notice.outcome for notice in told]
    with pytest.raises(BudgetExceeded, match="hard"):
        await budgets.reserve(a_turn())


async def test_a_refused_turn_leaves_nothing_set_aside() -> None:
    """If one of several budgets refuses, the others keep what they had."""
    budgets, _ = budgets_of(DAILY, Budget(name="small", tokens=10, reserve_tokens=10))
    await spend(budgets, 10)

    with pytest.raises(BudgetExceeded, match="small"):
        await budgets.reserve(a_turn())

    assert await stands(budgets) == (10, 0)


# --- whose budget


async def test_each_tenant_has_a_budget_of_its_own() -> None:
    """What one tenant spends is nothing to another."""
    budgets, _ = budgets_of(Budget(name="b", scope="tenant", tokens=100, reserve_tokens=100))
    await spend(budgets, 100)

    await spend(budgets, 1, turn=a_turn(tenant="other"))

    with pytest.raises(BudgetExceeded):
        await budgets.reserve(a_turn(user="bob"))


async def test_users_of_the_same_name_in_two_tenants_are_two() -> None:
    """A user's budget is that of a user of a tenant, however it is written."""
    budgets, _ = budgets_of(Budget(name="b", scope="user", tokens=10, reserve_tokens=10))
    odd = "Ann Ö/ with: signs"
    await spend(budgets, 10, turn=a_turn(user=odd))

    await spend(budgets, 10, turn=a_turn(user=odd, tenant="other"))

    with pytest.raises(BudgetExceeded):
        await budgets.reserve(a_turn(user=odd))


async def test_a_budget_of_one_agent_is_for_that_agent() -> None:
    """`of` leaves all others alone."""
    budgets, _ = budgets_of(Budget(name="b", scope="agent", of="dear", tokens=10))
    await spend(budgets, 10, turn=a_turn(agent="dear"))

    assert (await spend(budgets, 10)).lines == ()
    with pytest.raises(BudgetExceeded):
        await budgets.reserve(a_turn(agent="dear"))


# --- money


async def test_money_is_counted_in_millionths() -> None:
    """A budget of a cent is told at its thresholds, and refuses when it is gone."""
    budgets, told = budgets_of(Budget(name="cent", usd=0.01))

    await spend(budgets, 10, 5_000)
    await spend(budgets, 10, 5_000)

    assert [notice.percent for notice in told] == [50, 75, 90, 100]
    with pytest.raises(BudgetExceeded, match=r"0\.01 USD"):
        await budgets.reserve(a_turn())


async def test_an_unknown_cost_is_what_was_set_aside() -> None:
    """It is never nothing."""
    budgets, _ = budgets_of(Budget(name="b", usd=1.0, reserve_usd=0.25))

    await spend(budgets, 10, None)

    assert await stands(budgets) == (250_000, 0)


# --- once


async def test_settling_twice_counts_once() -> None:
    """Whoever lost the answer may ask again, for both steps."""
    clock = Clock()
    store = FailingStore(memory(clock))
    budgets, turn = Budgets([DAILY], counters=store, wall=clock), a_turn()
    store.lose("count")
    with pytest.raises(StoreUnavailable):
        await budgets.reserve(turn)
    grant = await budgets.reserve(turn)
    assert await stands(budgets) == (0, 100)

    store.lose("count")
    with pytest.raises(StoreUnavailable):
        await budgets.settle(grant, Spent(70, None))

    assert not await budgets.settle(grant, Spent(70, None))
    assert await stands(budgets) == (70, 0)


async def test_a_store_that_is_gone_lets_nobody_spend() -> None:
    """Without its counters no budget is known to have room."""
    clock = Clock()
    store = FailingStore(memory(clock))
    store.fail("count")

    with pytest.raises(StoreUnavailable):
        await Budgets([DAILY], counters=store, wall=clock).reserve(a_turn())


async def test_that_a_turn_is_settled_is_known_for_a_while_only() -> None:
    """Counters of turns that ended do not pile up."""
    clock = Clock()
    store = memory(clock)
    budgets, turn = Budgets([DAILY], counters=store, wall=clock, once_s=10.0), a_turn()
    await spend(budgets, 70, turn=turn)
    assert await store.counts([turn_counter(turn.id)]) != [0]

    clock.now += 10.0

    assert await store.counts([turn_counter(turn.id)]) == [0]
    assert await stands(budgets) == (70, 0)


# --- other processes


async def test_another_process_settles_what_one_has_set_aside() -> None:
    """A turn that was taken over is settled from its record alone, once."""
    clock, turn = Clock(), a_turn()
    store = memory(clock)
    first, second = (Budgets([DAILY], counters=store, wall=clock) for _ in range(2))
    grant = await first.reserve(turn)

    recalled = await second.recall(turn)
    assert recalled == grant
    await second.settle(recalled, Spent(40, None))

    assert await stands(first) == (40, 0)
    assert await first.recall(turn) is None
    assert await first.settle(grant, Spent(40, None)) is None


async def test_a_process_with_other_budgets_gives_nothing_back_that_it_does_not_know() -> None:
    """What was set aside under another configuration stays used."""
    clock, turn = Clock(), a_turn()
    store = memory(clock)
    first = Budgets([DAILY], counters=store, wall=clock)
    changed = Budget(name="daily", period="day", tokens=1_000, reserve_tokens=300)
    second = Budgets([changed], counters=store, wall=clock)
    await first.reserve(turn)

    recalled = await second.recall(turn)
    assert recalled is not None and not recalled.reserved
    await second.settle(recalled, Spent(40, None))

    assert await stands(first) == (40, 100)
    assert await second.recall(turn) is None


async def test_what_a_dead_process_has_set_aside_is_spent() -> None:
    """The turns may have run: when the hour is over in which they could, they count as having spent
    what was set aside, and there is no more room for others than there was.
    """
    clock = Clock()
    budgets, told = budgets_of(Budget(name="b", tokens=200, reserve_tokens=100), clock=clock)
    turns = [a_turn(), a_turn()]
    for turn in turns:
        await budgets.reserve(turn)
    clock.now = slot_of(turns[0]) * SLOT_S - 1.0
    assert await stands(budgets) == (0, 200)

    clock.now += 1.0

    assert await stands(budgets) == (200, 0)
    with pytest.raises(BudgetExceeded, match="used up") as info:
        await budgets.reserve(a_turn(at=clock.now))
    assert info.value.retry_after_s is not None and info.value.retry_after_s > 86_400
    assert (told[-1].outcome, told[-1].spent) == ("refused", 200)


async def test_what_was_left_behind_counts_for_alerts() -> None:
    """With the next turn that ends the parts are told that were reached without anybody settling,
    each by one process.
    """
    clock, told = Clock(), []  # type: ignore[var-annotated]
    store = memory(clock)
    budget = Budget(name="b", tokens=1_000, reserve_tokens=300)
    processes = [
        Budgets([budget], counters=store, wall=clock, listener=told.append) for _ in range(2)
    ]
    left = a_turn(deadline_s=7_200)
    await processes[0].reserve(left)
    await processes[0].reserve(a_turn(deadline_s=7_200))
    await spend(processes[0], 10)
    assert told == []
    clock.now = slot_of(left) * SLOT_S

    for process in processes:
        await spend(process, 10, turn=a_turn(at=clock.now))

    assert [(each.percent, each.spent) for each in told] == [(50, 620)]


async def test_a_turn_that_ends_after_its_hour_is_counted_as_it_was() -> None:
    """What it spent takes the place of what counted as spent."""
    clock = Clock()
    budgets, _ = budgets_of(Budget(name="b", tokens=100, reserve_tokens=60), clock=clock)
    late, turn = await budgets.reserve(a_turn()), a_turn()
    clock.now = (slot_of(turn) + 1) * SLOT_S - 1.0
    assert await stands(budgets) == (60, 0)

    assert await budgets.settle(late, Spent(50, None)) is not None

    assert await stands(budgets) == (50, 0)


async def test_a_turn_that_was_cut_off_costs_what_was_set_aside_at_least() -> None:
    """Of what its model was asked nobody knows how much it took."""
    budgets, _ = budgets_of(
        Budget(name="b", tokens=2_000, usd=2.0, reserve_tokens=100, reserve_usd=0.1)
    )
    for spent in (Spent(0, None, True), Spent(700, 900_000, True), Spent(5, 5, True)):
        turn = a_turn()
        await budgets.settle(await budgets.reserve(turn), spent)

    standing = await budgets.standing(a_turn())

    assert [each.spent for each in standing] == [100 + 700 + 100, 100_000 + 900_000 + 100_000]


async def test_an_alert_that_could_not_be_looked_up_comes_later() -> None:
    """The turn is settled all the same, and the next one tells it."""
    clock, told = Clock(), []  # type: ignore[var-annotated]
    store = FailingStore(memory(clock))
    budgets = Budgets([DAILY], counters=store, wall=clock, listener=told.append)
    first, second = a_turn(), a_turn()
    grants = [await budgets.reserve(turn) for turn in (first, second)]
    store.fail("counts", times=1)

    assert await budgets.settle(grants[0], Spent(600, None)) is not None
    assert told == []
    await budgets.settle(grants[1], Spent(1, None))

    assert [(each.percent, each.spent) for each in told] == [(50, 601)]


# --- an admission of which nobody knows


async def test_what_a_lost_answer_has_set_aside_is_given_back() -> None:
    """Whoever does not run the turn voids it, as often as it takes; nothing stays set aside, and
    what others have is left alone.
    """
    clock = Clock()
    store = FailingStore(memory(clock))
    budgets = Budgets([DAILY], counters=store, wall=clock)
    await budgets.reserve(a_turn())
    lost = [a_turn() for _ in range(9)]
    for turn in lost:
        store.lose("count")
        with pytest.raises(StoreUnavailable):
            await budgets.reserve(turn)
    assert await stands(budgets) == (0, 1_000)

    for turn in lost * 2:
        store.lose("count")
        with pytest.raises(StoreUnavailable):
            await budgets.void(turn)
        await budgets.void(turn)

    assert await stands(budgets) == (0, 100)


async def test_a_reservation_that_arrives_after_its_void_sets_nothing_aside() -> None:
    """It was still on its way when its caller gave up."""
    budgets, _ = budgets_of(DAILY)
    turn = a_turn()
    await budgets.void(turn)

    await budgets.reserve(turn)

    assert await stands(budgets) == (0, 0)


async def test_there_is_nothing_to_void_without_a_budget() -> None:
    """The store is not asked."""
    clock = Clock()
    store = FailingStore(memory(clock))
    await Budgets([], counters=store, wall=clock).void(a_turn())
    assert store.calls == []


# --- the cheaper model


SOFT = Budget(name="soft", tokens=100, reserve_tokens=100, at_limit="cheaper", model="small")


async def test_the_cheaper_model_is_known_to_whoever_runs_the_turn() -> None:
    """Asked again after a lost answer, and in another process: it is the same."""
    clock = Clock()
    store = FailingStore(memory(clock))
    here, there = (Budgets([DAILY, SOFT], counters=store, wall=clock) for _ in range(2))
    dear, cheap = a_turn(), a_turn()
    await here.reserve(dear)
    grant = await here.reserve(cheap)
    assert grant.model == "small"

    assert await here.reserve(cheap) == grant
    assert await there.recall(cheap) == grant
    recalled = await there.recall(dear)
    assert recalled is not None and recalled.model is None
    await there.settle(grant, Spent(10, None))
    assert await here.recall(cheap) is None
    assert await here.settle(grant, Spent(10, None)) is None
    assert (await here.standing(cheap))[1].reserved == 100


# --- one turn


async def test_one_turn_may_be_limited() -> None:
    """The grant says where it is to be stopped, and no more is set aside for it."""
    budgets, _ = budgets_of(
        DAILY,
        Budget(name="turn", period="turn", tokens=50, usd=0.5),
        Budget(name="dear", period="turn", scope="agent", of="dear", tokens=5),
    )

    grant = await budgets.reserve(a_turn())

    assert (grant.max_tokens, grant.max_micro) == (50, 500_000)
    assert not grant.exceeded(50, 500_000)
    assert grant.exceeded(51, None) and grant.exceeded(0, 500_001)
    assert (await budgets.reserve(a_turn(agent="dear"))).max_tokens == 5


async def test_nothing_is_counted_without_a_budget() -> None:
    """A turn that no budget is about costs the store nothing."""
    clock = Clock()
    store = FailingStore(memory(clock))
    budgets = Budgets(
        [Budget(name="b", scope="tenant", of="x", tokens=1)], counters=store, wall=clock
    )

    grant = await budgets.reserve(a_turn())
    assert not await budgets.settle(grant, Spent(1, 1))
    assert await budgets.recall(a_turn()) is not None
    assert await budgets.standing(a_turn()) == []

    assert store.calls == []
    assert repr(budgets) == "<Budgets ['b']>"
