"""An agent that asks another agent: one permit, one principal, one deadline, one fate."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentPool, AgentSpec, Context, Principal, Turn
from pool.agent import ToolCall
from pool.errors import AgentFailed, Conflict, DeadlineExceeded
from pool.guard.tool_rules import ToolRules
from tests.support.agents import Held, pooled, ticks


class Asking:
    """An agent that passes what it is asked on to another one, and answers with its answer."""

    def __init__(self, other: str, **options: object) -> None:
        self.pool: AgentPool
        self.turns: list[Turn] = []
        self._other = other
        self._options = options

    async def __call__(self, text: str) -> str:
        turn = await self.pool.ask(text, agent=self._other, **self._options)  # type: ignore[arg-type]
        self.turns.append(turn)
        return f"{self._other} says {turn.output}"


async def test_a_nested_turn_runs_on_the_permit_of_its_parent() -> None:
    """With one shared permit the agent asked can still answer: no deadlock, and one permit held."""
    front, held = Asking("back"), Held()
    agents = {
        "front": AgentSpec(agent=front, max=1, limit="p", limit_initial=1),
        "back": AgentSpec(agent=held, max=1, limit="p"),
    }
    async with pooled(agents) as pool:
        front.pool = pool
        asked = asyncio.create_task(pool.ask("hi"))
        await held.until_started(1)
        assert pool.stats().agents[0].limit.held == 1
        await held.let_all()
        assert (await asked).output == "back says done: hi"
        assert pool.stats().agents[0].limit.held == 0


async def test_it_goes_before_turns_that_need_a_permit() -> None:
    """Turns that wait for the very permit which the parent holds do not block its child."""
    held, asks = Held(), asyncio.Event()

    async def front(text: str) -> str:
        await asks.wait()
        return (await pool.ask(text, agent="back")).output

    agents = {
        "front": AgentSpec(agent=front, min=1, max=1, limit="p", limit_initial=1),
        "back": AgentSpec(agent=held, min=1, max=1, limit="p"),
    }
    async with pooled(agents) as pool:
        await ticks()
        asked = asyncio.create_task(pool.ask("nested", deadline_s=100))
        await ticks()
        for n in range(3):
            await pool.submit(f"outside {n}", agent="back", priority="interactive")
        asks.set()
        await held.let_all()
        assert (await asked).output == "done: nested"
        await held.until_started(4)
        assert held.started[0] == "nested"
        assert held.peak == 1


async def test_outsiders_queue_behind_a_nested_turn_that_waits_for_an_actor() -> None:
    """A nested turn that finds all actors busy starts when one rests, before the others."""
    fronts, held = Asking("back"), Held()
    agents = {
        "front": AgentSpec(agent=fronts, min=2, max=2, limit="p", limit_initial=2),
        "back": AgentSpec(agent=held, min=1, max=1, limit="p"),
    }
    async with pooled(agents) as pool:
        fronts.pool = pool
        await ticks()
        asked = [asyncio.create_task(pool.ask(f"n{n}", deadline_s=100)) for n in range(2)]
        await held.until_started(1)
        await pool.submit("outside", agent="back", priority="interactive")
        await held.let("n0", "n1")
        assert [(await task).state for task in asked] == ["completed", "completed"]
        assert held.started[:2] == ["n0", "n1"]
        await held.let_all()


async def test_principal_and_deadline_are_inherited() -> None:
    """The agent asked acts for the same caller and has no more time than the turn that asks."""
    seen: list[tuple[Principal, float]] = []

    async def back(text: str, ctx: Context) -> str:
        seen.append((ctx.principal, ctx.deadline))
        return text

    async def agent(text: str, ctx: Context) -> str:
        seen.append((ctx.principal, ctx.deadline))
        return (await pool.ask(text, agent="back", deadline_s=10_000)).output

    alice = Principal("acme", "alice", ("user", "admin"))
    async with pooled({"front": agent, "back": back}) as pool:
        await pool.ask("hi", principal=alice, deadline_s=50)
        assert seen[0] == seen[1] == (alice, pytest.approx(50))
        page = await pool.sessions(principal=alice)
        assert len(page.items) == 2


async def test_a_nested_turn_expires_with_its_parent() -> None:
    """When the parent's deadline passes both turns end, and nothing runs on."""
    front, held = Asking("back"), Held()
    async with pooled({"front": front, "back": held}) as pool:
        front.pool = pool
        with pytest.raises(DeadlineExceeded):
            await pool.ask("hi", deadline_s=5)
        await ticks()
        assert held.cancelled == ["hi"] and pool.stats().turns == 0


async def test_cancelling_the_parent_cancels_the_child() -> None:
    """A cancelled turn takes the turns that it waits for with it, at any depth."""
    first, second, held = Asking("second"), Asking("third"), Held()
    async with pooled({"first": first, "second": second, "third": held}) as pool:
        first.pool = second.pool = pool
        turn = await pool.submit("hi")
        await held.until_started(1)
        assert (await pool.cancel(turn.id)).state == "cancelled"
        await ticks()
        assert held.cancelled == ["hi"] and pool.stats().turns == 0
        assert all(agent.limit.held == 0 for agent in pool.stats().agents)


async def test_cycles_are_refused() -> None:
    """An agent that would be asked by itself, through others, is refused; so is its own session."""
    first, second = Asking("second"), Asking("first")
    async with pooled({"first": first, "second": second}) as pool:
        first.pool = second.pool = pool
        with pytest.raises(AgentFailed, match="in a circle"):
            await pool.ask("hi")
    same = Asking("second", session="s1")
    async with pooled({"first": same, "second": Held()}) as pool:
        same.pool = pool
        with pytest.raises(AgentFailed, match="session s1 is busy with the turn that asks"):
            await pool.ask("hi", session="s1")


async def test_nesting_is_not_endless() -> None:
    """A chain deeper than `max_nesting` is refused."""
    chain = {f"a{n}": Asking(f"a{n + 1}") for n in range(3)}
    async with pooled({**chain, "a3": Held()}, max_nesting=2) as pool:
        for agent in chain.values():
            agent.pool = pool
        with pytest.raises(AgentFailed, match="2 deep"):
            await pool.ask("hi")


async def test_a_nested_turn_that_goes_on_alone_needs_a_permit_of_its_own() -> None:
    """A child that outlives its parent (`on_disconnect="continue"`) counts under the limit."""
    held = Held()

    async def front(text: str) -> str:
        if text == "hold":
            return await held(text)
        asking = asyncio.create_task(
            pool.ask("child", agent="back", session="s1", on_disconnect="continue")
        )
        await ticks()
        asking.cancel()
        return "left it alone"

    agents = {
        "front": AgentSpec(agent=front, min=4, max=4, limit="p", limit_initial=1),
        "back": AgentSpec(agent=held, min=1, max=1, limit="p"),
    }
    async with pooled(agents, start_limit=5) as pool:
        await ticks()
        before = await pool.submit("before", agent="back", session="s1")
        await held.until_started(1)
        parent = asyncio.create_task(pool.ask("parent"))
        await ticks()
        holds = [await pool.submit("hold") for _ in range(3)]
        await held.let("before")
        await pool.wait(before.id)
        await parent
        await ticks()
        limit = pool.stats().agents[0].limit
        assert "child" in held.running
        assert len(held.running) == limit.held == limit.total < 4
        await held.let_all()
        for hold in holds:
            await pool.wait(hold.id)
        await ticks()
        assert pool.stats().agents[0].limit.held == 0


async def test_conflicts_of_nesting_do_not_reach_other_pools() -> None:
    """A turn of another pool is nobody's child, even of an agent of the same name."""

    async def inner(text: str) -> str:
        return f"inner {text}"

    async def outer(text: str) -> str:
        return (await second.ask(text)).output

    async with pooled({"agent": inner}) as second, pooled({"agent": outer}) as first:
        assert (await first.ask("hi")).output == "inner hi"
        with pytest.raises(Conflict):
            await first.open()


async def test_it_is_taken_although_others_would_have_to_wait() -> None:
    """A nested turn that can start on its parent's permit is not refused for others' long waits."""

    async def back(text: str) -> str:
        await asyncio.sleep(30)
        return text

    async def front(text: str) -> str:
        return (await pool.ask(text, agent="back")).output

    agents = {
        "front": AgentSpec(agent=front, min=1, max=1, limit="p", limit_initial=1),
        "back": AgentSpec(agent=back, min=2, max=2, limit="p"),
    }
    async with pooled(agents) as pool:
        await pool.ask("first", agent="back")
        assert pool.stats().agents[0].limit.total == 2
        outside = await pool.submit("outside", agent="back")
        asked = asyncio.create_task(pool.ask("nested", deadline_s=40))
        assert (await asked).output == "nested"
        assert (await pool.wait(outside.id)).state == "completed"


@pytest.mark.parametrize(("roles", "action"), [(("user",), "allow"), (("guest",), "deny")])
async def test_who_is_asked_has_the_callers_roles_and_tools_of_its_own(
    roles: tuple[str, ...], action: str
) -> None:
    """The agent that asks may call no tool at all; what the other may is in its own list, cut with
    what the caller may.
    """
    front = Asking("back")

    async def back(text: str, ctx: Context) -> str:
        return (await ctx.gate(ToolCall("c1", "look"))).action

    rules = ToolRules(roles={"user": ("look",)}, agents={"front": (), "back": ("look",)})
    async with pooled({"front": front, "back": back}, tools=rules) as pool:
        front.pool = pool
        turn = await pool.ask("hi", principal=Principal("acme", "ann", roles))
    assert turn.output == f"back says {action}"
