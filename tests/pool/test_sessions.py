"""A session is one line of turns: one at a time, in order; and it may rest meanwhile."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from pool import AgentSpec, TurnEnd, TurnInput
from pool.agent import Context
from pool.errors import Conflict, NotFound, SessionBusy
from pool.store.memory import MemoryStore
from pool.store.memory_limits import MemoryLimits
from tests.support.agents import Held, Scripted, pooled, ticks, wall


async def test_a_session_runs_one_turn_at_a_time() -> None:
    """However many actors there are, two turns of one session never run side by side."""
    running: dict[str, int] = {}
    random = Random(5)

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        running[ctx.session_id] = running.get(ctx.session_id, 0) + 1
        assert running[ctx.session_id] == 1
        await asyncio.sleep(random.random())
        running[ctx.session_id] -= 1
        return TurnEnd(output="ok")

    async with pooled(AgentSpec(agent=Scripted(run), max=8)) as pool:
        asked = [pool.ask(str(n), session=f"s{random.randrange(3)}") for n in range(60)]
        assert {turn.state for turn in await asyncio.gather(*asked)} == {"completed"}


async def test_an_actor_runs_one_turn_at_a_time() -> None:
    """An instance never has two turns at once."""

    class Instance:
        def __init__(self) -> None:
            self.turns = 0

        async def __call__(self, text: str) -> str:
            self.turns += 1
            assert self.turns == 1
            await asyncio.sleep(1)
            self.turns -= 1
            return text

    async with pooled(AgentSpec(agent=lambda: Instance(), max=4)) as pool:
        turns = await asyncio.gather(*[pool.ask(str(n)) for n in range(40)])
        assert {turn.state for turn in turns} == {"completed"}


async def test_turns_of_a_session_run_in_the_order_of_acceptance() -> None:
    """A hundred turns of one session run in the order in which they were accepted."""
    order: list[str] = []
    random = Random(7)

    async def agent(text: str) -> str:
        order.append(text)
        await asyncio.sleep(random.random())
        return text

    async with pooled(AgentSpec(agent=agent, min=4)) as pool:
        turns = [
            await pool.submit(
                str(n), session="s1", priority=random.choice(("batch", "interactive"))
            )
            for n in range(100)
        ]
        await pool.wait(turns[-1].id)
        assert order == [str(n) for n in range(100)]


async def test_the_order_holds_across_agents_and_failures() -> None:
    """Also when the turns are for several agents, fail, crash or are cancelled while they wait."""
    order: list[str] = []
    crashed: list[str] = []

    async def agent(text: str) -> str:
        order.append(text)
        await asyncio.sleep(1)
        if text == "3" and text not in crashed:
            crashed.append(text)
            raise SystemExit
        if text == "1":
            raise ValueError
        return text

    async with pooled({"a": agent, "b": agent}) as pool:
        turns = [await pool.submit(str(n), session="s1", agent="ab"[n % 2]) for n in range(6)]
        await pool.cancel(turns[2].id)
        await pool.wait(turns[-1].id)
        assert order == ["0", "1", "3", "3", "4", "5"]


async def test_a_waiting_turn_of_a_session_holds_no_actor() -> None:
    """Turns that wait for their session take no actor from other sessions."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=2)) as pool:
        for n in range(3):
            await pool.submit(f"s1-{n}", session="s1")
        await pool.submit("s2-0", session="s2")
        await agent.until_started(2)
        assert sorted(agent.running) == ["s1-0", "s2-0"]
        await agent.let_all()


async def test_turns_accepted_while_a_session_comes_to_rest_run() -> None:
    """A turn that arrives in the very moment in which the last one ends runs like any other."""

    async def agent(text: str) -> str:
        await asyncio.sleep(0)
        return text

    for after in range(1, 13):
        async with pooled(AgentSpec(agent=agent, min=2)) as pool:
            first = asyncio.create_task(pool.ask("one", session="s1"))
            await ticks(after)
            second = await pool.ask("two", session="s1", deadline_s=10)
            assert (second.state, (await first).state) == ("completed", "completed")
            # once nobody needs it, it is forgotten here
            assert pool.stats().sessions == 0
            assert [m.content for m in (await pool.messages("s1")).items] == ["one"] * 2 + [
                "two"
            ] * 2


async def test_a_session_that_rests_in_the_store_goes_on() -> None:
    """A session packed away by the store's housekeeping wakes up with its state and transcript."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        seen = (turn.state or b"") + turn.input.encode()
        return TurnEnd(output=seen.decode(), state=seen)

    store = MemoryStore(clock=wall, limits=MemoryLimits(rest_after_s=2.0))
    async with pooled({"a": Scripted(run, state_format="t/1")}, store=store) as pool:
        first = await pool.ask("a", session="s1")
        for n in range(1, 4):
            await asyncio.sleep(10)
            assert (await pool.turn(first.id)).output == "a"
            await asyncio.sleep(10)
            assert (await pool.ask("a", session="s1")).output == "a" * (n + 1)


async def test_reject_refuses_while_the_session_has_a_turn() -> None:
    """`if_busy="reject"` raises `SessionBusy` and leaves nothing; afterwards it is accepted."""
    agent = Held()
    async with pooled(agent) as pool:
        await pool.submit("one", session="s1")
        with pytest.raises(SessionBusy):
            await pool.ask("two", session="s1", if_busy="reject")
        stats = pool.stats()
        assert (stats.turns, stats.agents[0].waiting) == (1, 0) or agent.started == []
        await agent.let_all()
        assert (await pool.session("s1")).turns == 1
        await pool.ask("three", session="s1")
        assert (await pool.ask("two", session="s1", if_busy="reject")).state == "completed"


async def test_sessions_can_be_made_listed_forked_and_deleted() -> None:
    """Sessions are made once, listed a page at a time, forked with history, forgotten."""

    async def agent(text: str) -> str:
        return f"re: {text}"

    async with pooled({"a": agent, "b": agent}) as pool:
        made = await pool.create_session("s1", agent="b", metadata={"k": 1})
        with pytest.raises(Conflict):
            await pool.create_session("s1")
        with pytest.raises(NotFound):
            await pool.create_session("s9", agent="nobody")
        assert made.agent == "b"
        turns = [await pool.ask(str(n), session="s1") for n in range(3)]
        assert [turn.agent for turn in turns] == ["b", "b", "b"]
        fork = await pool.fork_session("s1", "s2", turns[1].id)
        contents = [m.content for m in (await pool.messages(fork.id)).items]
        assert contents == ["0", "re: 0", "1", "re: 1"]
        page = await pool.sessions(limit=1)
        rest = await pool.sessions(page.next, limit=10)
        assert [s.id for s in (*page.items, *rest.items)] == ["s1", "s2"]
        await pool.delete_session("s1")
        for call in (pool.session("s1"), pool.delete_session("s1"), pool.turn(turns[0].id)):
            with pytest.raises(NotFound):
                await call


async def test_a_session_with_an_unfinished_turn_cannot_be_deleted() -> None:
    """`SessionBusy` until its turn has ended."""
    agent = Held()
    async with pooled(agent) as pool:
        turn = await pool.submit("one", session="s1")
        with pytest.raises(SessionBusy):
            await pool.delete_session("s1")
        await pool.cancel(turn.id)
        await pool.delete_session("s1")
