"""What the simulation found once, each as the smallest case that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pool import AgentPool, AgentSpec, PoolConfig
from pool.errors import Conflict, DeadLetter, DeadlineExceeded
from pool.store.memory import MemoryStore
from tests.support.stores import WrappedStore

T = TypeVar("T")

CONFIG = PoolConfig(watchdog_s=0, cancel_grace_s=0.5)


class DoorkeeperStore(WrappedStore):
    """Lets nothing in until it is told to."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.suspends = True
        self.open_door = asyncio.Event()

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name == "accept":
            await self.open_door.wait()
        return await call()


async def echo(text: str) -> str:
    """Answers at once."""
    return text


async def slow(text: str) -> str:
    """Answers after a second."""
    await asyncio.sleep(1)
    return text


def _sharing(agent: object) -> AgentSpec:
    return AgentSpec(agent=agent, limit="provider", limit_initial=1)


async def test_who_runs_on_its_askers_permit_does_not_wait_behind_others():
    """A nested turn overtakes those that wait for the permit which its asker holds."""

    async def asking(text: str) -> str:
        await asyncio.sleep(1)
        return (await pool.ask(text, agent="echo")).output

    async with AgentPool(
        {"asking": _sharing(asking), "echo": _sharing(echo)}, config=CONFIG
    ) as pool:
        asker = asyncio.create_task(pool.ask("hi"))
        await asyncio.sleep(0.5)
        other = asyncio.create_task(pool.ask("ho", agent="echo"))
        assert (await asyncio.wait_for(asker, 5)).output == "hi"
        assert (await other).output == "ho"


async def test_who_outlives_its_asker_takes_a_permit_of_its_own():
    """An asker that has ended has no permit to share."""

    async def asking(text: str) -> str:
        turn = await pool.ask(text, agent="slow", session="busy", on_disconnect="continue")
        return turn.output

    agents = {"asking": _sharing(asking), "slow": _sharing(slow), "other": AgentSpec(agent=slow)}
    async with AgentPool(agents, config=CONFIG) as pool:
        await pool.submit("before", agent="other", session="busy")
        asker = await pool.submit("hi")
        await asyncio.sleep(0.5)
        await pool.cancel(asker.id)
        await asyncio.sleep(1)
        limit = next(agent.limit for agent in pool.stats().agents if agent.name == "slow")
        assert limit.held == 1


async def test_what_is_left_of_an_ended_turn_may_not_ask():
    """An agent that goes on after its turn has ended cannot ask as if nobody had asked it."""
    refused: list[Exception] = []

    async def stubborn(text: str) -> str:
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
        try:
            await pool.ask(text, agent="echo")
        except Conflict as error:
            refused.append(error)
        return text

    async with AgentPool({"stubborn": stubborn, "echo": echo}, config=CONFIG) as pool:
        turn = await pool.submit("hi")
        await asyncio.sleep(0.1)
        await pool.cancel(turn.id)
        await asyncio.sleep(5)
        assert len(refused) == 1


async def test_a_turn_that_the_store_accepts_too_late_never_starts():
    """A deadline that passes while the store takes the turn is a deadline that has passed."""
    ran: list[str] = []

    async def note(text: str) -> str:
        ran.append(text)
        return text

    store = DoorkeeperStore()
    async with AgentPool(note, config=CONFIG, store=store) as pool:
        asking = asyncio.create_task(pool.ask("hi", deadline_s=0.5))
        await asyncio.sleep(1)
        store.open_door.set()
        assert isinstance(await _failure(asking), DeadlineExceeded)
        assert ran == []


async def test_a_drain_waits_for_turns_on_their_way_in():
    """What was admitted before the drain is part of what it waits for."""
    store = DoorkeeperStore()
    async with AgentPool(echo, config=CONFIG, store=store) as pool:
        submitting = asyncio.create_task(pool.submit("hi"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.2, store.open_door.set)
        await pool.drain(deadline_s=1)
        assert (await pool.turn((await submitting).id)).state == "completed"


async def test_a_turn_that_the_store_accepts_after_the_drain_is_interrupted():
    """A drain that is over lets nobody in through the back door."""
    store = DoorkeeperStore()
    async with AgentPool(slow, config=CONFIG, store=store) as pool:
        submitting = asyncio.create_task(pool.submit("hi"))
        await asyncio.sleep(0)
        await pool.drain(deadline_s=0)
        store.open_door.set()
        turn = await submitting
        await asyncio.sleep(0.1)
        assert (await pool.turn(turn.id)).state == "interrupted"


async def test_busy_actors_above_a_lowered_maximum_go_before_their_next_turn():
    """After the maximum was lowered no more turns run side by side than it allows."""
    async with AgentPool(AgentSpec(agent=slow, min=2, max=2), config=CONFIG) as pool:
        await asyncio.sleep(0.1)
        for number in range(4):
            await pool.submit("hi", session=f"s{number}")
        await asyncio.sleep(0.1)
        await pool.resize("slow", min=1, max=1)
        assert pool.stats().agents[0].actors.busy == 2
        await asyncio.sleep(1)
        actors = pool.stats().agents[0].actors
        assert (actors.busy, actors.idle, actors.starting) == (1, 0, 0)
        await asyncio.sleep(3)
        assert pool.stats().turns == 0


async def test_a_raised_maximum_raises_the_limit():
    """An agent whose limit stood at its maximum runs as many turns as the new one allows."""
    async with AgentPool(AgentSpec(agent=slow, max=1), config=CONFIG) as pool:
        await pool.resize("slow", max=3)
        for number in range(3):
            await pool.submit("hi", session=f"s{number}")
        await asyncio.sleep(0.5)
        assert pool.stats().agents[0].actors.busy == 3


async def test_an_agent_with_an_open_actor_does_not_stay_degraded():
    """Once the backoff is over an actor that never failed is enough; no more are started for it."""

    made: list[object] = []

    async def crashing(text: str) -> str:
        if text == "crash":
            raise SystemExit
        return text

    def make() -> object:
        made.append(crashing)
        return crashing

    config = PoolConfig(watchdog_s=0, restarts_max=0, max_attempts=1, restarts_window_s=1)
    async with AgentPool({"crashing": AgentSpec(agent=make, min=2, max=2)}, config=config) as pool:
        await asyncio.sleep(0.1)
        failure = await _failure(asyncio.create_task(pool.ask("crash")))
        assert isinstance(failure, DeadLetter)
        assert (await pool.ready())["agent:crashing"] is not None
        await pool.resize("crashing", min=1, max=1)
        await asyncio.sleep(3)
        assert (await pool.ready())["agent:crashing"] is None
        assert pool.stats().agents[0].actors.idle == 1
        assert len(made) == 2


async def _failure(task: asyncio.Task[object]) -> BaseException | None:
    await asyncio.wait([task])
    return task.exception()
