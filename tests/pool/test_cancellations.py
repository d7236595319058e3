"""Whoever waits for the pool may be cancelled at any await: nothing is lost and nothing is stuck.

Each test sweeps: it cancels at the first await, at the second, and so on, in two ways (see
`sweep_cancel`), and looks after each at what is left. Every store that suspends has awaits of its
own, so most tests run on one that does and on one that does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from pool import (
    ANYONE,
    AgentPool,
    AgentSpec,
    Context,
    Decision,
    PoolConfig,
    TextDelta,
    ToolCall,
    TurnEnd,
)
from pool.agent import TurnInput
from pool.errors import Conflict
from pool.store.base import Store
from pool.store.memory import MemoryStore
from pool.turn import TurnRequest
from tests.support import sweep_cancel
from tests.support.stores import YieldingStore

STORES: dict[str, Callable[[], Store]] = {
    "bare": MemoryStore,
    "yielding": lambda: YieldingStore(MemoryStore()),
}
CONFIG = PoolConfig(watchdog_s=0, cancel_grace_s=0.5, scale_down_hold_s=1e6)
either_store = pytest.mark.parametrize("store", STORES)


async def teller(text: str, ctx: Context) -> str:
    """Says a little, with pauses."""
    await ctx.emit(TextDelta("so "))
    await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    await ctx.emit(TextDelta("it is "))
    return text


async def deaf(text: str) -> str:
    """Ends only long after it was cancelled."""
    for _ in range(2):
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            continue
    return text


class Asker:
    """Asks a human first."""

    state_format = "asker/1"

    async def open(self) -> None:
        """Nothing to open."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Pauses until the human has decided."""
        decision = await ctx.gate(ToolCall("c1", "tool"))
        if decision.action == "ask":
            return TurnEnd("paused", state=b"asked")
        return TurnEnd(output=decision.action, state=b"answered")

    async def close(self) -> None:
        """Nothing to close."""


def _ask(*_: object) -> Decision:
    return Decision("ask")


@asynccontextmanager
async def pool_of(store: str, **agents: Any) -> AsyncIterator[AgentPool]:
    """A pool with one actor and one permit an agent."""
    specs = {name: _spec(agent) for name, agent in agents.items()}
    async with AgentPool(specs, config=CONFIG, store=STORES[store](), seed=1) as pool:
        yield pool


def _spec(agent: Any) -> AgentSpec:
    return agent if isinstance(agent, AgentSpec) else AgentSpec(agent=agent, max=1)


def _sharing(agent: Any) -> AgentSpec:
    return AgentSpec(agent=agent, max=1, limit="provider", limit_initial=1)


async def quiet(pool: AgentPool) -> None:
    """Wait until no turn is left; then nothing may be taken any more, and the pool answers."""
    for _ in range(200):
        if not pool.stats().turns:
            break
        await asyncio.sleep(0.1)
    # what was left behind ends as well
    await asyncio.sleep(5)
    assert left_over(pool) == []
    turn = await pool.ask("on", agent=next(iter(pool.specs)), session="again")
    assert turn.state in ("completed", "waiting")
    await pool.cancel(turn.id)
    assert left_over(pool) == [], [
        (t, t.record.state, t.record.pending, t.record.decided, t.actor, t.session, t.continues)
        for t in pool._turns.live.values()
    ]


def left_over(pool: AgentPool) -> list[str]:
    """Everything that is taken though nothing runs."""
    stats = pool.stats()
    left = [f"{stats.turns} turns"] if stats.turns else []
    left += [f"{stats.sessions} sessions"] if stats.sessions else []
    for agent in stats.agents:
        taken = (agent.limit.held, agent.queued, agent.waiting, agent.actors.busy)
        if any(taken):
            left.append(f"{agent.name}: permits, queued, places, busy = {taken}")
    return left


@either_store
async def test_ask_cancelled_at_every_await(store: str):
    """A cancelled ask cancels its turn and leaves no permit, place or session taken."""
    async with pool_of(store, teller=teller) as pool:
        cuts = await sweep_cancel(lambda: pool.ask("hi", session="s1"), lambda: quiet(pool))
        assert cuts >= 1


@either_store
async def test_ask_cancelled_while_its_agent_does_not_listen(store: str):
    """An agent that swallows the cancellation is left behind; its permit and place are not."""
    async with pool_of(store, deaf=AgentSpec(agent=deaf, max=2)) as pool:
        await sweep_cancel(lambda: pool.ask("hi", session="s1"), lambda: quiet(pool))


@either_store
async def test_submit_cancelled_at_every_await(store: str):
    """A turn whose submission was cancelled runs or was never accepted; nothing in between."""
    async with pool_of(store, teller=teller) as pool:

        async def check() -> None:
            await quiet(pool)
            turns = (await pool.store.turns(pool._key("s1", ANYONE), None, 100)).items
            assert {turn.state for turn in turns} <= {"completed"}

        await sweep_cancel(lambda: pool.submit("hi", session="s1"), check)


@either_store
async def test_accept_with_a_key_cancelled_at_every_await(store: str):
    """Whoever was cancelled and tries again with the key gets one turn, run once."""
    async with pool_of(store, teller=teller) as pool:
        numbers = iter(range(1_000))
        request = TurnRequest(input="hi")
        session = ""

        async def accept() -> None:
            nonlocal session
            session = f"s{next(numbers)}"
            await pool.accept(request, session=session, idempotency_key="k")

        async def check() -> None:
            turn = (await pool.accept(request, session=session, idempotency_key="k")).turn
            assert (await pool.wait(turn.id)).state == "completed"
            assert (await pool.session(session)).turns == 1
            await quiet(pool)

        await sweep_cancel(accept, check)


@either_store
async def test_stream_cancelled_at_every_await(store: str):
    """A cancelled stream cancels its turn and closes its reader."""
    async with pool_of(store, teller=teller) as pool:

        async def stream() -> None:
            async with aclosing(pool.stream("hi", session="s1")) as events:
                async for _ in events:
                    pass

        assert await sweep_cancel(stream, lambda: quiet(pool)) >= 2


@either_store
async def test_a_reader_cancelled_at_every_await(store: str):
    """A reader of a turn that runs, or has ended, is closed wherever it is cancelled."""
    async with pool_of(store, teller=teller) as pool:
        ended = await pool.ask("hi", session="s0")

        async def read() -> None:
            turn = await pool.submit("hi", session="s1")
            for turn_id in (ended.id, turn.id):
                async with aclosing(pool.events(turn_id)) as events:
                    async for _ in events:
                        pass

        await sweep_cancel(read, lambda: quiet(pool))


@either_store
@pytest.mark.parametrize("timeout_s", [None, 0.05])
async def test_wait_cancelled_at_every_await(store: str, timeout_s: float | None):
    """Waiting for a turn changes nothing about it."""
    async with pool_of(store, teller=teller) as pool:
        turn_id = ""

        async def wait() -> None:
            nonlocal turn_id
            turn_id = (await pool.submit("hi", session="s1")).id
            await pool.wait(turn_id, timeout_s=timeout_s)

        async def check() -> None:
            await quiet(pool)
            assert not turn_id or (await pool.turn(turn_id)).state == "completed"

        await sweep_cancel(wait, check)


@either_store
async def test_cancelled_while_a_permit_is_handed_over(store: str):
    """A turn that is cancelled just as it gets the actor and the permit passes them on."""
    async with pool_of(store, teller=teller) as pool:

        async def second() -> None:
            await pool.submit("first", session="s1")
            third = asyncio.create_task(pool.ask("third", session="s3"))
            try:
                await pool.ask("second", session="s2")
            finally:
                await asyncio.shield(third)

        async def check() -> None:
            await quiet(pool)
            turns = (await pool.store.turns(pool._key("s3", ANYONE), None, 1_000)).items
            assert {turn.state for turn in turns} <= {"completed"}

        await sweep_cancel(second, check)


@either_store
async def test_a_nested_ask_cancelled_at_every_await(store: str):
    """Cancelling who asks cancels who was asked; the shared permit comes back."""

    async def outer(text: str) -> str:
        turn = await pool.ask(text, agent="teller")
        return turn.output

    async with pool_of(store, outer=_sharing(outer), teller=_sharing(teller)) as pool:
        cuts = await sweep_cancel(
            lambda: pool.ask("hi", agent="outer", session="s1"), lambda: quiet(pool)
        )
        assert cuts >= 1


@either_store
async def test_a_nested_ask_whose_asker_is_cancelled_in_its_own_awaits(store: str):
    """The agent itself may be cancelled at any await of its ask: so it is when its turn is."""

    async def outer(text: str) -> str:
        # the sweep of the agent's own awaits, in its own turn
        await sweep_cancel(lambda: pool.ask(text, agent="teller"))
        return "swept"

    async with pool_of(store, outer=_sharing(outer), teller=_sharing(teller)) as pool:
        assert (await pool.ask("hi", agent="outer")).output == "swept"
        await quiet(pool)


@either_store
async def test_decide_cancelled_at_every_await(store: str):
    """A decision whose caller was cancelled counts or does not; the turn goes on either way."""
    async with pool_of(store, asker=AgentSpec(agent=Asker, max=1, gate=_ask)) as pool:
        turn_id = ""

        async def decide() -> None:
            nonlocal turn_id
            turn_id = ""
            turn = await pool.ask("may I?", session="s1", on_disconnect="continue")
            turn_id = turn.id
            await pool.decide(turn_id, "c1", "approve")

        async def check() -> None:
            # what was on its way into the store gets there
            await pool._parts.order.settled(10)
            for live in list(pool._turns.live.values()):
                turn = await pool.wait(live.id, until_paused=True)
                if turn.state == "waiting":
                    await pool.decide(turn.id, "c1", "approve")
                assert (await pool.wait(turn.id, timeout_s=10)).output == "allow"
            if turn_id:
                with pytest.raises(Conflict):
                    await pool.decide(turn_id, "c1", "deny")
            await quiet(pool)

        await sweep_cancel(decide, check)


@either_store
async def test_cancel_cancelled_at_every_await(store: str):
    """A turn whose cancellation was cancelled is cancelled or completes; it is never stuck."""
    async with pool_of(store, teller=teller) as pool:

        async def cancel() -> None:
            turn = await pool.submit("hi", session="s1")
            await asyncio.sleep(0.05)
            await pool.cancel(turn.id)

        await sweep_cancel(cancel, lambda: quiet(pool))


@either_store
async def test_drain_cancelled_at_every_await(store: str):
    """A cancelled drain can be repeated, and then ends everything."""
    pools: list[AgentPool] = []

    async def drain() -> None:
        async with pool_of(store, teller=AgentSpec(agent=teller, max=2), deaf=deaf) as pool:
            pools.append(pool)
            for agent in ("teller", "deaf", "teller"):
                await pool.submit("hi", agent=agent, session="s1")
            await pool.drain(deadline_s=0.05)

    async def check() -> None:
        if not pools:
            return
        pool = pools.pop()
        await pool.drain(deadline_s=0.1)
        assert pool.draining
        assert left_over(pool) == [], [
            (t, t.record.state, t.record.pending, t.record.decided, t.actor, t.session, t.continues)
            for t in pool._turns.live.values()
        ]
        await pool.close()

    await sweep_cancel(drain, check)


@either_store
@pytest.mark.parametrize("agent", [teller, deaf])
async def test_close_cancelled_at_every_await(store: str, agent: Any):
    """A pool whose closing was cancelled can be closed; no actor outlives that."""
    pools: list[AgentPool] = []
    before = asyncio.all_tasks()

    async def close() -> None:
        pool = AgentPool({"agent": _spec(agent)}, config=CONFIG, store=STORES[store](), seed=1)
        pools.append(pool)
        await pool.open()
        await pool.submit("hi", session="s1")
        await pool.submit("ho", session="s1")
        await asyncio.sleep(0.05)
        await pool.close(deadline_s=0.1)

    async def check() -> None:
        await pools[-1].close(deadline_s=0.1)
        # the deaf one's last words
        await asyncio.sleep(5)
        assert asyncio.all_tasks() <= before
        if pools[-1]._tick_timer is not None:
            assert left_over(pools[-1]) == []

    await sweep_cancel(close, check)
