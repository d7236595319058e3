"""Two pools in one loop never meet."""

from __future__ import annotations

import asyncio

from pool import AgentPool, AgentSpec
from pool.errors import NotFound
from pool.observer import TasksLeakedNotice
from tests.support.agents import Held, Leaking, Notices, pooled, ticks


async def test_pools_have_nothing_in_common() -> None:
    """The same agent, session and key in two pools are two of everything."""
    agent = Held()
    async with pooled(agent) as one, pooled(agent) as two:
        first = await one.submit("hi", session="s1", idempotency_key="k")
        second = await two.submit("hi", session="s1", idempotency_key="k")
        assert first.id != second.id
        await agent.until_started(2)
        for pool, other in ((one, second), (two, first)):
            try:
                await pool.turn(other.id)
            except NotFound:
                continue
            raise AssertionError("a pool found the turn of another")
        await one.drain(deadline_s=0)
        assert (one.draining, two.draining) == (True, False)
        assert agent.cancelled == ["hi"] and len(agent.running) == 1
        await agent.let_all()
        assert (await two.wait(second.id)).state == "completed"
        assert one.name != two.name


async def test_leaks_are_noted_by_the_pool_whose_turn_it_was() -> None:
    """Each pool cancels the tasks of its own turns, in whatever order pools open and close."""
    for first_closed in (0, 1):
        agents = [Leaking(1), Leaking(2)]
        notices = [Notices(), Notices()]
        pools = [
            AgentPool(agent, observers=[watching])
            for agent, watching in zip(agents, notices, strict=True)
        ]
        for pool in pools:
            await pool.open()
        await asyncio.gather(*[pool.ask("hi") for pool in pools])
        counts = [[n.count for n in watching.of(TasksLeakedNotice)] for watching in notices]
        assert counts == [[1], [2]]
        await pools[first_closed].close()
        await pools[1 - first_closed].ask("again")
        await ticks()
        assert all(task.done() for task in agents[1 - first_closed].tasks)
        await pools[1 - first_closed].close()
        assert asyncio.get_running_loop().get_task_factory() is None


async def test_a_task_factory_of_the_users_own_is_kept() -> None:
    """The factory that was there makes the tasks, and is there again afterwards."""
    loop = asyncio.get_running_loop()
    made: list[str] = []

    def factory(loop, coro, **options):
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **options)

    loop.set_task_factory(factory)
    agent = Leaking(2)
    async with pooled(agent) as pool:
        await pool.ask("hi")
        await ticks()
        assert all(task.cancelled() for task in agent.tasks)
        assert made.count("Leaking._forever") == 2
    assert loop.get_task_factory() is factory
    loop.set_task_factory(None)


async def test_an_agent_of_one_pool_may_ask_another_pool() -> None:
    """Such a turn is nobody's child: it has a permit, a deadline and a fate of its own."""
    held = Held()
    async with pooled(AgentSpec(agent=held, max=1)) as back:

        async def front(text: str) -> str:
            return (await back.ask(text, deadline_s=50)).output

        async with pooled({"Held": front}) as pool:
            asked = asyncio.create_task(pool.ask("hi", deadline_s=5_000))
            await held.until_started(1)
            [live] = back._turns.live.values()
            assert live.parent is None and live.has_permit
            await held.let_all()
            assert (await asked).output == "done: hi"
