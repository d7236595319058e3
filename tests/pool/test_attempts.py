"""What the attempts of a turn used is added up, also when the process of one of them died."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from pool import AgentPool, AgentSpec
from pool.agent import Context, Decision, ToolCall, TurnEnd, TurnInput
from pool.errors import StoreUnavailable
from pool.events import Event, TextDelta, ToolCalled, UsageReported
from pool.guard.budget import Budget
from pool.guard.budgets import Standing
from pool.guard.ledger import CostConfig
from pool.guard.prices import Price
from pool.store.base import Lease, StateChange
from pool.store.memory import MemoryStore
from pool.turn import Principal, Turn, Usage
from tests.support.agents import Scripted, pooled, wall
from tests.support.cluster import LEASE_S, Cluster, cluster, clustered
from tests.support.faulty import FaultyView
from tests.support.stores import View

BOSS = Principal("default", "boss", ("user", "operator"))
TOKENS, SHARE = 1_000, 10
COST = CostConfig(
    prices={"m": Price(input=30, output=30)},
    budgets=(Budget(name="b", tokens=100_000, reserve_tokens=SHARE),),
)


class Asking:
    """Asks a model of 1,000 tokens again and again, as its input says; its state is how often.

    `ask`: once more; `keep`: a checkpoint; `work`: a tool of a minute, in the first attempt;
    `crash`: of its actor, in the first attempt; `human`: pauses, until somebody has decided.
    """

    state_format = "asking/1"

    async def open(self) -> None:
        """Nothing is opened."""

    async def close(self) -> None:
        """Nothing is closed."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Take the steps that the state has not seen."""
        done, requests = map(int, turn.state.split()) if turn.resume and turn.state else (0, 0)
        for place, step in enumerate(turn.input.split()[done:], done + 1):
            if step == "ask":
                requests += 1
                used = Usage(requests * TOKENS, 0, requests, models=("m",))
                await ctx.emit(UsageReported(used))
            elif step == "keep":
                await ctx.checkpoint(b"%d %d" % (place, requests))
            elif step == "human":
                call = ToolCall("c", "pay", {})
                if (await ctx.gate(call)).action == "ask":
                    return TurnEnd("paused", state=b"%d %d" % (place - 1, requests))
            elif step == "work" and ctx.attempt == 1:
                await ctx.emit(ToolCalled("c", "work", {}))
                await asyncio.sleep(60)
            elif step == "crash" and ctx.attempt == 1:
                raise SystemExit("this test crashes the actor")
        return TurnEnd(output="done")


def ask(principal: Principal, call: ToolCall) -> Decision:
    """A human is asked."""
    return Decision("ask", risk="dangerous")


def asking() -> AgentSpec:
    """Agents that ask, and ask humans."""
    return AgentSpec(agent=Asking, gate=ask)


async def spent(pool: AgentPool, turn: Turn) -> int:
    """What the budget counts."""
    line: Standing
    (line,) = await pool.ledger.budgets.standing(turn)
    return line.spent


async def taken_over(
    on: Cluster[Any], text: str, *, after_s: float = 1, until_paused: bool = False
) -> Turn:
    """A turn whose process is cut off `after_s` seconds after it was accepted there, as it is in
    the end where it was taken over.
    """
    here, there = on.pools
    accepted = await here.submit(text, session="s1", deadline_s=300)
    await asyncio.sleep(after_s)
    on.views[0].cut()
    await asyncio.sleep(LEASE_S + 5)
    return await there.wait(accepted.id, until_paused=until_paused, timeout_s=50)


@pytest.mark.parametrize(
    ("steps", "requests"),
    [
        ("ask work ask", 3),
        ("ask keep work ask", 2),
        ("ask keep ask work ask", 4),
        ("ask ask keep ask keep ask work", 5),
        ("keep ask work", 2),
    ],
)
async def test_what_a_killed_process_used_is_counted(steps: str, requests: int) -> None:
    """Each request that was made, whichever attempt made it; what a checkpoint has is no other."""
    async with clustered(FaultyView, asking(), asking(), cost=COST) as on:
        turn = await taken_over(on, steps)
        await asyncio.sleep(1)
        tokens = await spent(on.pools[1], turn)
        on.views[0].mend()
    assert (turn.state, turn.attempt, turn.usage.requests) == ("completed", 2, requests)
    assert turn.usage.cost_usd == pytest.approx(0.03 * requests)
    assert tokens == TOKENS * requests


@pytest.mark.parametrize(
    ("steps", "requests"), [("ask crash ask", 3), ("ask keep ask crash ask human ask", 5)]
)
async def test_what_an_attempt_used_whose_actor_crashed_is_counted(
    steps: str, requests: int
) -> None:
    """Also if the next one pauses: it goes on from its own state then, which knows of no other."""
    async with pooled({"a": asking()}, cost=COST) as pool:
        accepted = await pool.submit(steps)
        turn = await pool.wait(accepted.id, until_paused=True)
        if turn.state == "waiting":
            await pool.decide(turn.id, "c", "approve", principal=BOSS)
            turn = await pool.wait(turn.id)
        tokens = await spent(pool, turn)
    assert (turn.state, turn.attempt, turn.usage.requests) == ("completed", 2, requests)
    assert tokens == TOKENS * requests


class Unkept(Asking):
    """Pauses without a state, and so goes on from its last checkpoint, or from the beginning."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Leave the state of a pause out."""
        end = await super().run(turn, ctx)
        return TurnEnd(end.status, end.output)


class Stateless(Unkept):
    """Keeps no state of any kind."""

    state_format = ""


@pytest.mark.parametrize(
    ("agent", "steps", "requests"),
    [
        (Asking, "ask human ask", 2),
        (Unkept, "ask keep ask human ask", 4),
        (Stateless, "ask human ask", 3),
    ],
)
async def test_what_was_used_before_a_pause_is_counted_once(
    agent: type[Asking], steps: str, requests: int
) -> None:
    """Whether the state knows of all of it, of some, or there is none."""
    async with pooled({"a": AgentSpec(agent=agent, gate=ask)}, cost=COST) as pool:
        accepted = await pool.submit(steps)
        await pool.wait(accepted.id, until_paused=True)
        await pool.decide(accepted.id, "c", "approve", principal=BOSS)
        turn = await pool.wait(accepted.id)
        tokens = await spent(pool, turn)
    assert (turn.state, turn.attempt, turn.usage.requests) == ("completed", 1, requests)
    assert tokens == TOKENS * requests


class Keeping(View):
    """A store of which a test sees which records came with events."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.records: list[int | None] = []

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """Note how many requests the record has; None: none came."""
        self.records.append(None if turn is None else turn.usage.requests)
        return await super().append(lease, events, turn, state)


class Refusing(FaultyView):
    """A store that takes no checkpoint."""

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """Refuse it if it is one."""
        if state is not None:
            raise StoreUnavailable("this test takes no checkpoint")
        return await super().append(lease, events, turn, state)


class Older(View):
    """A store as a program has left it that did not say what a state knows of."""

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """Leave out how much it knows."""
        record = None if turn is None else replace(turn, kept_usage=None)
        return await super().append(lease, events, record, state)


class Saving(Asking):
    """In its first attempt it keeps a state, and uses something meanwhile."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Say which state there was."""
        if ctx.attempt == 1:
            saving = asyncio.create_task(ctx.checkpoint(b"something"))
            await asyncio.sleep(0.5)
            await ctx.emit(UsageReported(Usage(TOKENS, 0, 1, models=("m",))))
            await saving
        found = (turn.state or b"").decode() if turn.resume else "nothing"
        return TurnEnd(output=f"attempt {ctx.attempt} has {found}")


class Questioning(Asking):
    """Asks a human about a call of another name in each attempt; the first does not pause."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Ask, and pause."""
        await ctx.gate(ToolCall(f"call-{ctx.attempt}", "pay", {}))
        await ctx.emit(UsageReported(Usage(TOKENS, 0, 1, models=("m",))))
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return TurnEnd("paused", state=b"asked")


async def talks(turn: TurnInput, ctx: Context) -> TurnEnd:
    """Talks for three seconds, and asks a model in the second one."""
    for tenth in range(30):
        await ctx.emit(TextDelta("word "))
        if tenth == 10:
            await ctx.emit(UsageReported(Usage(TOKENS, 0, 1, models=("m",))))
        await asyncio.sleep(0.1)
    return TurnEnd()


async def test_a_state_of_an_older_program_knows_of_all_that_was_used() -> None:
    """Nothing of a turn that had paused when the program was exchanged is counted twice."""
    async with clustered(Older, asking(), asking(), cost=COST) as on:
        a, b = on.pools
        accepted = await a.submit("ask human ask", session="s1", deadline_s=300)
        await a.wait(accepted.id, until_paused=True)
        await a.drain(deadline_s=1)
        await b.decide(accepted.id, "c", "approve", principal=BOSS)
        turn = await b.wait(accepted.id, timeout_s=50)
    assert (turn.state, turn.usage.requests) == ("completed", 2)


async def test_a_record_is_stored_again_when_what_it_used_has_changed() -> None:
    """With the events that are stored anyway: no call of the store more, no record in vain."""
    store = Keeping(MemoryStore(clock=wall))
    async with pooled(Scripted(talks), store=store) as pool:
        await pool.ask("hi")
    records = store.records
    assert 10 <= len(records) <= 14
    assert [each for each in records if each is not None] == [1]


async def test_a_record_is_stored_until_the_store_has_it() -> None:
    """A write that failed, and took the usage along, is made again with it."""
    failing = FaultyView(MemoryStore(clock=wall))
    async with pooled(Scripted(talks), store=failing) as pool:
        turn = await pool.submit("hi")
        await asyncio.sleep(1)
        failing.fail("append", times=2)
        await asyncio.sleep(1.5)
        stored = await failing.turn(turn.id)
    assert stored is not None and stored.usage.requests == 1


async def test_what_is_stored_on_the_way_has_no_checkpoint_that_the_store_has_not() -> None:
    """The store refuses the checkpoint and takes what is written by itself, then the process dies:
    the turn begins anew, and what it used is known.
    """
    async with clustered(Refusing, Saving(), Saving()) as on:
        turn = await taken_over(on, "hi", after_s=2)
        on.views[0].mend()
    assert (turn.output, turn.usage.requests) == ("attempt 2 has nothing", 1)


async def test_what_was_asked_before_the_pause_is_asked_again() -> None:
    """The process died when a human had been asked, and the agent had not paused yet: the next
    attempt waits for its own question only.
    """
    agents = [AgentSpec(agent=Questioning(), gate=ask) for _ in range(2)]
    async with clustered(FaultyView, *agents) as on:
        turn = await taken_over(on, "hi", until_paused=True)
        on.views[0].mend()
        assert (turn.state, turn.attempt) == ("waiting", 2)
        assert [call.call_id for call in turn.pending] == ["call-2"]


async def test_what_was_asked_before_a_hand_over_is_asked_again() -> None:
    """A drain takes the turn from an agent that has asked and not paused yet: whoever has it next
    waits for its own question only.
    """
    agents = [AgentSpec(agent=Questioning(), gate=ask) for _ in range(2)]
    async with cluster(*agents) as on:
        a, b = on.pools
        accepted = await a.submit("hi", session="s1", deadline_s=300)
        await asyncio.sleep(1)
        await a.drain(deadline_s=1)
        turn = await b.wait(accepted.id, until_paused=True, timeout_s=50)
        assert (turn.state, turn.attempt) == ("waiting", 2)
        assert [call.call_id for call in turn.pending] == ["call-2"]
