"""Limits of budgets that operators change while pools run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from pool.errors import BudgetExceeded, InvalidRequest, NotFound
from pool.guard.budget import Budget
from pool.guard.budget_changes import KIND, BudgetChanges
from pool.guard.budget_tables import budget_row
from pool.guard.budgets import Budgets, Spent
from pool.guard.ledger import CostConfig, Ledger
from pool.store.base import Store
from pool.store.cabinet import Document
from tests.contract.stores import Opening, every_store
from tests.support.spending import NOON, Clock, a_turn, memory
from tests.support.stores import FailingStore, WrappedStore, YieldingStore

TEAM = Budget(name="team", usd=0.01, reserve_usd=0.01)
EACH = Budget(name="each", scope="tenant", tokens=1_000, period="day")
CONFIGURED = (TEAM, EACH)
WITHIN_S = 2.0
T = TypeVar("T")


class Process:
    """One process that goes by the budgets."""

    def __init__(self, store: Store, configured: Sequence[Budget] = CONFIGURED) -> None:
        self.budgets = Budgets(configured, counters=store, wall=Clock())
        self.changes = BudgetChanges(
            configured, store, apply=self.budgets.replace, wall=lambda: NOON
        )

    def limit(self, name: str) -> tuple[int | None, float | None]:
        """The tokens and the money that a budget has here."""
        turn = a_turn()
        found = {line.budget.name: line.budget for line in self.budgets.grant_of(turn).lines}
        return found[name].tokens, found[name].usd


@every_store
async def test_a_change_counts_here_at_once_and_elsewhere_after_a_look(opening: Opening) -> None:
    """In every process of the store, whichever it is; until it is taken back."""
    async with opening() as (store, _):
        here, there = Process(store), Process(store)
        await there.changes.refresh()
        await here.changes.set("team", usd=5)
        assert (here.limit("team"), there.limit("team")) == ((None, 5), (None, 0.01))
        await there.changes.refresh()
        assert there.limit("team") == (None, 5)
        assert there.limit("each") == (1_000, None)
        assert await there.changes.unset("team") is True
        await here.changes.refresh()
        assert here.limit("team") == there.limit("team") == (None, 0.01)
        assert await here.changes.unset("team") is False


async def test_a_turn_that_was_refused_is_admitted_once_the_limit_is_raised() -> None:
    """What was spent stays; a process that begins anew knows of it."""
    store = memory(Clock())
    here = Process(store)
    grant = await here.budgets.reserve(a_turn())
    await here.budgets.settle(grant, Spent(0, 10_000))
    with pytest.raises(BudgetExceeded):
        await here.budgets.reserve(a_turn())

    await here.changes.set("team", usd=0.02)

    after = Process(store)
    await after.changes.refresh()
    await after.budgets.reserve(a_turn())
    with pytest.raises(BudgetExceeded):
        await here.budgets.reserve(a_turn())


async def test_a_limit_below_what_is_set_aside_lowers_that_too() -> None:
    """A turn fits into an empty budget, however small."""
    here = Process(memory(Clock()))
    await here.changes.set("team", usd=0.001)
    (line,) = [each for each in here.budgets.grant_of(a_turn()).lines if each.unit == "micro"]
    assert (line.limit, line.estimate) == (1_000, 1_000)


async def test_what_is_not_given_stays_as_it_was_changed() -> None:
    """One limit is changed without the other."""
    store = memory(Clock())
    both = Budget(name="both", tokens=10, usd=1)
    here = Process(store, (both,))
    await here.changes.set("both", tokens=20)
    await here.changes.set("both", usd=2)
    assert here.limit("both") == (20, 2)
    (change,) = await here.changes.list()
    assert (change.name, change.since) == ("both", NOON)


@every_store
async def test_limits_that_are_changed_at_once_are_all_kept(opening: Opening) -> None:
    """By the same process and by others: each changes one of them."""
    names = [f"both{number}" for number in range(5)]
    both = [Budget(name=name, tokens=10, usd=1) for name in names]
    async with opening() as (store, _):
        here, there = Process(store, both), Process(YieldingStore(store), both)
        await asyncio.gather(
            *(here.changes.set(name, tokens=20) for name in names),
            *(there.changes.set(name, usd=2) for name in names),
            *(there.changes.set(name, usd=2) for name in names),
        )
        kept = [(each.name, each.tokens, each.usd) for each in await here.changes.list()]
        assert kept == [(name, 20, 2) for name in names]


class SlowOnce(WrappedStore):
    """Its first list of documents comes late."""

    late = True

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        found = await call()
        if name == "documents" and self.late:
            self.late = False
            for _ in range(100):
                await asyncio.sleep(0)
        return found


async def test_what_was_read_before_a_change_does_not_undo_it_here() -> None:
    """Also if it comes late: who has changed a limit finds it changed."""
    here = Process(SlowOnce(memory(Clock())))
    await asyncio.gather(here.changes.set("team", usd=5), here.changes.set("each", tokens=7))
    assert (here.limit("team"), here.limit("each")) == ((None, 5), (7, None))


@pytest.mark.parametrize(
    ("name", "tokens", "usd", "said"),
    [
        ("team", None, None, "give tokens, usd or both"),
        ("team", 5, None, "no limit of tokens in its configuration"),
        ("each", None, 5.0, "no limit of usd in its configuration"),
        ("each", 0, None, "tokens must be 1 to"),
        ("each", 10**16, None, "tokens must be 1 to"),
        ("team", None, 0.0, "usd must be 0.000001 to"),
        ("team", None, float("nan"), "usd must be"),
        ("team", None, float("inf"), "usd must be"),
    ],
)
async def test_a_limit_that_cannot_be_is_refused(
    name: str, tokens: int | None, usd: float | None, said: str
) -> None:
    """It changes nothing."""
    here = Process(memory(Clock()))
    with pytest.raises(InvalidRequest, match=said):
        await here.changes.set(name, tokens=tokens, usd=usd)
    assert await here.changes.list() == []


async def test_a_budget_that_is_not_configured_cannot_be_changed() -> None:
    """The error names those that are."""
    here = Process(memory(Clock()))
    for change in (here.changes.set("other", usd=1), here.changes.unset("other")):
        with pytest.raises(NotFound, match="there is no budget other; there is: team, each"):
            await change


async def test_a_change_of_a_budget_that_is_gone_is_passed_over() -> None:
    """As is a limit that its configuration has no more."""
    store = memory(Clock())
    old = Process(store, (Budget(name="team", tokens=5, usd=1), Budget(name="gone", usd=1)))
    await old.changes.set("team", tokens=7, usd=2)
    await old.changes.set("gone", usd=2)
    new = Process(store)
    await new.changes.refresh()
    assert new.limit("team") == (None, 2)
    assert repr(new.changes) == "<BudgetChanges of ['team', 'each']>"


async def test_many_changes_are_read_in_parts() -> None:
    """More than a page of documents."""
    store = memory(Clock())
    for start in (0, 600):
        documents = [
            Document(f"b{number}", b'{"name":"b%d"}' % number)
            for number in range(start, start + 600)
        ]
        await store.put(KIND, documents)
    assert len(await Process(store).changes.list()) == 1_200


async def test_a_ledger_follows_what_is_changed_elsewhere() -> None:
    """Within two seconds, while it runs; without budgets it asks the store nothing."""
    clock = Clock()
    store = FailingStore(memory(clock))
    config = CostConfig(budgets=CONFIGURED)
    ledger, idle = (
        Ledger(config, store=store, wall=clock),
        Ledger(CostConfig(), store=store, wall=clock),
    )
    await idle.start()
    await asyncio.sleep(WITHIN_S)
    assert store.calls == []
    await ledger.start()
    await Process(store).changes.set("team", usd=7)
    await asyncio.sleep(WITHIN_S)
    (account, _) = await ledger.budgets.accounts("acme", "ann", ["a"])
    assert account.budget.usd == 7
    for each in (ledger, idle):
        await each.stop()


SCOPES = (
    Budget(name="all", usd=1),
    Budget(name="agents", scope="agent", tokens=10),
    Budget(name="b", scope="agent", of="b", tokens=10),
    Budget(name="tenants", scope="tenant", tokens=10),
    Budget(name="acme", scope="tenant", of="acme", tokens=10),
    Budget(name="users", scope="user", tokens=10),
    Budget(name="bob", scope="user", of="acme/bob", tokens=10),
    Budget(name="turns", period="turn", tokens=10),
)


@pytest.mark.parametrize(
    ("tenant", "whose"),
    [
        (
            "acme",
            {
                "tenants": ["acme"],
                "acme": ["acme"],
                "users": ["acme/ann"],
                "bob": ["acme/bob"],
            },
        ),
        ("other", {"tenants": ["other"], "users": ["other/ann"]}),
        (None, {"tenants": [None], "acme": ["acme"], "users": [None], "bob": ["acme/bob"]}),
    ],
)
async def test_budgets_are_told_to_whom_they_concern(
    tenant: str | None, whose: dict[str, list[str | None]]
) -> None:
    """Those of all and of agents to everybody, others to their tenant."""
    found: dict[str, list[str | None]] = {}
    budgets = Budgets(SCOPES, counters=memory(Clock()), wall=Clock())
    for account in await budgets.accounts(tenant, "ann", ["a", "b"]):
        found.setdefault(account.budget.name, []).append(account.subject)
    assert found == {"all": [""], "agents": ["a", "b"], "b": ["b"], "turns": [""], **whose}


async def test_a_budget_is_told_with_how_it_stands() -> None:
    """What was spent, what is set aside, when the period ends, and the configured limit."""
    here = Process(memory(Clock()), (Budget(name="team", usd=0.01), EACH))
    grant = await here.budgets.reserve(a_turn())
    await here.budgets.settle(grant, Spent(125, 2_500))
    await here.changes.set("each", tokens=500)
    await here.budgets.reserve(a_turn())

    accounts = await here.budgets.accounts("acme", "ann", ["a"])
    rows = [budget_row(each, here.changes.configured[each.budget.name]) for each in accounts]

    team, each = rows
    assert (team.subject, team.current, str(team.ends_at)) == (
        "",
        "2026-11",
        "2026-12-01 00:00:00+00:00",
    )
    assert team.usd and (team.usd.limit, team.usd.spent, team.usd.percent) == (0.01, 0.0025, 25.0)
    assert each.tokens and (each.tokens.limit, each.tokens.configured) == (500, 1_000)
    assert (each.tokens.spent, each.tokens.reserved, each.subject) == (125, 50, "acme")


async def test_a_budget_for_single_turns_has_no_standing() -> None:
    """It is told with its limit alone."""
    one = Budget(name="one", period="turn", tokens=10)
    here = Process(memory(Clock()), (one,))
    (account,) = await here.budgets.accounts(None, "", ["a"])
    row = budget_row(account, one)
    assert row.tokens and (row.tokens.limit, row.tokens.spent, row.current) == (10, None, None)
