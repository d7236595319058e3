"""What observers are told, and that they can harm nobody."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec, Context
from pool.errors import AgentFailed, Overloaded, ProviderOverloaded
from pool.events import ModelDecided
from pool.guard.budget_notices import BudgetNotice
from pool.observer import (
    ActorStartedNotice,
    ActorStoppedNotice,
    AgentStateNotice,
    CallDecidedNotice,
    DecisionRefusedNotice,
    InputFlaggedNotice,
    LimitChangedNotice,
    LoopBlockedNotice,
    Notice,
    Observers,
    ScaledNotice,
    Take,
    TasksLeakedNotice,
    ToolDecidedNotice,
    TurnEndedNotice,
    TurnMovedNotice,
    TurnRefusedNotice,
    TurnRepeatedNotice,
    TurnStartedNotice,
)
from pool.webhooks import WebhookNotice
from tests.support.agents import Crashing, Held, Leaking, Notices, pooled, ticks

# sent in tests/pool/: test_blocked_loop.py, test_replicas.py, test_webhooks.py, and in guard/
# test_audit_pool.py, test_budgets.py, test_screened.py
ELSEWHERE = {
    BudgetNotice,
    CallDecidedNotice,
    DecisionRefusedNotice,
    InputFlaggedNotice,
    LoopBlockedNotice,
    ToolDecidedNotice,
    TurnMovedNotice,
    WebhookNotice,
}


class Failing:
    """An observer that always raises."""

    def __init__(self) -> None:
        self.called = 0

    def notice(self, notice: Notice) -> None:
        self.called += 1
        raise RuntimeError("an observer's own trouble")


class Choosing(Notices):
    """An observer that wants the ends of turns only, and is asked about each kind once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[type[Notice]] = []

    def taker(self, kind: type[Notice]) -> Take | None:
        self.asked.append(kind)
        return self.notice if kind is TurnEndedNotice else None


class Undecided(Failing):
    """An observer that raises when it is asked what it wants."""

    def taker(self, kind: type[Notice]) -> Take | None:
        raise RuntimeError("an observer's own trouble")


async def test_a_turn_is_told_from_start_to_end() -> None:
    """Started after its wait; ended with record, request id and time to its first text."""
    notices, agent = Notices(), Held()
    async with pooled(AgentSpec(agent=agent, max=1), observers=[notices]) as pool:
        await pool.submit("one")
        two = asyncio.create_task(pool.ask("two", request_id="r-2"))
        await asyncio.sleep(3)
        await agent.let("one")
        await asyncio.sleep(2)
        await agent.let("two")
        turn = await two
        started, ended = notices.of(TurnStartedNotice)[1], notices.of(TurnEndedNotice)[1]
        assert (started.agent, started.turn_id, started.attempt) == ("Held", turn.id, 1)
        assert started.queued_s == pytest.approx(3)
        assert (ended.turn.id, ended.request_id) == (turn.id, "r-2")
        assert ended.first_token_s == pytest.approx(5)


async def test_every_kind_of_notice_is_sent() -> None:
    """A restless pool sends each of them, about the right agent."""
    notices = Notices()
    held, leaking, crashing = Held(), Leaking(1), Crashing(2)

    async def agent(text: str, ctx: Context) -> str:
        match text:
            case "overload":
                raise ProviderOverloaded("too much")
            case "leak":
                return await leaking(text)
            case "crash":
                return await crashing(text)
            case "route":
                await ctx.emit(ModelDecided("routed", "m", "it is short"))
        return await held(text)

    spec = AgentSpec(agent=agent, max=2)
    async with pooled({"a": spec}, observers=[notices], queue_max=1, restarts_max=1) as pool:
        await ticks()
        await pool.ask("leak")
        with pytest.raises(AgentFailed):
            await pool.ask("overload")
        await pool.submit("one")
        await held.until_started(1)
        last = await pool.submit("route")
        with pytest.raises(Overloaded):
            await pool.submit("three")
        await held.let_all()
        await pool.wait(last.id)
        await pool.ask("crash", deadline_s=1_000)
        sent = {type(notice) for notice in notices.all}
        assert {notice.agent for notice in notices.all} == {"a"}
    assert set(Notice.__subclasses__()) - ELSEWHERE == sent
    assert notices.of(TurnRefusedNotice)[0].code == "overloaded"
    assert [n.state for n in notices.of(AgentStateNotice)][:1] == ["degraded"]
    assert notices.of(LimitChangedNotice)[0].limit == "a"
    assert notices.of(TasksLeakedNotice)[0].count == 1
    assert notices.of(ScaledNotice)[0].before == 1
    assert len(notices.of(ActorStartedNotice)) == len(notices.of(ActorStoppedNotice))


async def test_an_observer_that_raises_harms_nothing() -> None:
    """Turns run, actors start and the other observers are told as if it were not there."""
    failing, notices = Failing(), Notices()
    async with pooled(Crashing(1), observers=[failing, notices]) as pool:
        assert (await pool.ask("hi")).output == "run 2"
    assert failing.called == len(notices.all) > 5


async def test_a_turn_that_is_run_again_is_told() -> None:
    """Each attempt but the first, by its number."""
    notices = Notices()
    async with pooled(Crashing(2), observers=[notices]) as pool:
        turn = await pool.ask("hi", deadline_s=1_000)
    told = [(each.turn_id, each.attempt) for each in notices.of(TurnRepeatedNotice)]
    assert told == [(turn.id, 2), (turn.id, 3)]


async def test_who_chooses_is_told_of_nothing_else() -> None:
    """It is asked once about each kind; those who do not choose are told everything."""
    choosing, notices = Choosing(), Notices()
    async with pooled(Crashing(1), observers=[choosing, notices]) as pool:
        for _ in range(2):
            await pool.ask("hi")
    assert choosing.all == notices.of(TurnEndedNotice)
    assert len(choosing.all) == 2
    assert len(choosing.asked) == len(set(choosing.asked)) > 5
    assert notices.of(TurnStartedNotice)


def test_what_nobody_wants_is_known() -> None:
    """Whether a notice need be made is known for each kind."""
    assert Observers([Choosing()]).wants(TurnEndedNotice)
    assert not Observers([Choosing()]).wants(TurnStartedNotice)
    assert Observers([Choosing(), Notices()]).wants(TurnStartedNotice)
    assert not Observers().wants(TurnEndedNotice)


def test_who_raises_when_it_is_asked_is_told_nothing() -> None:
    """The others are told as if it were not there."""
    undecided, notices = Undecided(), Notices()
    observers = Observers([undecided, notices])
    observers.notice(ScaledNotice("a", 1, 2))
    assert (undecided.called, len(notices.all)) == (0, 1)
