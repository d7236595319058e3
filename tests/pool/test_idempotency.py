"""The same key and request give the same turn; a refused request uses up no key."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec
from pool.errors import AgentFailed, Draining, IdempotencyMismatch, Overloaded, SessionBusy
from pool.turn import Principal, TurnRequest
from tests.support.agents import Held, pooled, ticks


async def test_a_hundred_at_once_are_one_run() -> None:
    """A hundred asks with one key give a hundred times the same turn, which ran once."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=100)) as pool:
        asked = [
            asyncio.create_task(pool.ask("hi", session="s1", idempotency_key="k"))
            for _ in range(100)
        ]
        await agent.until_started(1)
        await ticks()
        assert pool.stats().agents[0].waiting == 0
        await agent.let_all()
        turns = await asyncio.gather(*asked)
        assert len({turn.id for turn in turns}) == 1
        assert agent.started == ["hi"]
        assert {turn.output for turn in turns} == {"done: hi"}


async def test_accept_says_whether_the_turn_is_new() -> None:
    """The first is new, a repetition is not, also after the end."""
    agent = Held()
    request = TurnRequest(input="hi")
    async with pooled(agent) as pool:
        first = await pool.accept(request, session="s1", idempotency_key="k")
        again = await pool.accept(request, session="s1", idempotency_key="k")
        assert (first.new, again.new, again.id) == (True, False, first.id)
        assert repr(again) == f"<Acceptance of turn {first.id}>"
        await agent.let_all()
        turn = await again.outcome()
        assert (turn.id, turn.state, turn.output) == (first.id, "completed", "done: hi")
        ended = await pool.accept(request, session="s1", idempotency_key="k")
        assert (ended.new, ended.turn) == (False, turn)
        assert await ended.outcome() == turn


async def test_a_default_counts_as_given() -> None:
    """A request with its defaults written out is the same request."""
    agent = Held()
    async with pooled({"a": agent}) as pool:
        await agent.let_all()
        first = await pool.ask("hi", session="s1", idempotency_key="k")
        again = await pool.ask(
            "hi", session="s1", idempotency_key="k", agent="a", deadline_s=600.0, priority="default"
        )
        assert again.id == first.id


async def test_the_same_key_with_another_request_is_a_mismatch() -> None:
    """Another input, agent, or option under the key is refused, and runs nothing."""
    agent = Held()
    async with pooled({"a": agent, "b": agent}) as pool:
        await agent.let_all()
        await pool.ask("hi", session="s1", idempotency_key="k")
        for call in (
            pool.ask("ho", session="s1", idempotency_key="k"),
            pool.ask("hi", session="s1", idempotency_key="k", agent="b"),
            pool.ask("hi", session="s1", idempotency_key="k", metadata={"a": 1}),
        ):
            with pytest.raises(IdempotencyMismatch):
                await call
        assert agent.started == ["hi"]


async def test_keys_belong_to_their_session_and_tenant() -> None:
    """The same key elsewhere is another turn."""
    agent = Held()
    async with pooled(agent) as pool:
        await agent.let_all()
        turns = [
            await pool.ask("hi", session="s1", idempotency_key="k"),
            await pool.ask("hi", session="s2", idempotency_key="k"),
            await pool.ask("hi", session="s1", idempotency_key="k", principal=Principal("other")),
            await pool.ask("hi", session="s1", idempotency_key="k2"),
        ]
        assert len({turn.id for turn in turns}) == 4


async def test_what_was_accepted_is_given_again_however_full_it_is() -> None:
    """A repetition is answered by a full and by a draining pool, and for a busy session."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1), queue_max=1) as pool:
        await ticks()
        first = await pool.submit("one", session="s1", idempotency_key="k1")
        second = await pool.submit("two", session="s2", idempotency_key="k2")
        with pytest.raises(Overloaded):
            await pool.submit("three", session="s3", idempotency_key="k3")
        again = [
            await pool.submit("one", session="s1", idempotency_key="k1"),
            await pool.submit("two", session="s2", idempotency_key="k2"),
        ]
        assert [turn.id for turn in again] == [first.id, second.id]
        with pytest.raises(IdempotencyMismatch):
            await pool.submit("other", session="s1", idempotency_key="k1")
        await agent.let_all()
        await pool.drain(deadline_s=10)
        assert (await pool.submit("one", session="s1", idempotency_key="k1")).id == first.id
        with pytest.raises(Draining):
            await pool.submit("three", session="s3", idempotency_key="k3")
        assert pool.stats().agents[0].refused == {"overloaded": 1, "draining": 1}


async def test_a_refused_request_uses_up_no_key() -> None:
    """A key whose request was refused can be used for another one."""
    agent = Held()
    async with pooled(AgentSpec(agent=agent, max=1), queue_max=1) as pool:
        await ticks()
        await pool.submit("one", session="s1")
        await pool.submit("two", session="s2")
        with pytest.raises(Overloaded):
            await pool.submit("three", session="s1", idempotency_key="k")
        await agent.let("one", "two")
        await agent.until_started(2)
        await ticks()
        busy = await pool.submit("hold", session="s1")
        with pytest.raises(SessionBusy):
            await pool.submit("four", session="s1", if_busy="reject", idempotency_key="k")
        await agent.let_all()
        await pool.wait(busy.id)
        assert (await pool.ask("five", session="s1", idempotency_key="k")).output == "done: five"


async def test_a_repetition_interrupts_nothing() -> None:
    """A turn that interrupts, sent again with its key, does not end what runs by then."""
    agent = Held()
    async with pooled(agent) as pool:
        await pool.submit("one", session="s1")
        await agent.until_started(1)
        two = await pool.submit("two", session="s1", if_busy="interrupt", idempotency_key="k")
        await agent.until_started(2)
        again = await pool.submit("two", session="s1", if_busy="interrupt", idempotency_key="k")
        await ticks()
        assert again.id == two.id and agent.cancelled == ["one"]
        await agent.let_all()


async def test_a_failed_turn_fails_again() -> None:
    """The key gives the turn as it ended: what raised raises again, without a second run."""
    runs = 0

    async def agent(text: str) -> str:
        nonlocal runs
        runs += 1
        raise ValueError

    async with pooled(agent) as pool:
        ids = set()
        for _ in range(2):
            with pytest.raises(AgentFailed) as failed:
                await pool.ask("hi", session="s1", idempotency_key="k")
            ids.add(failed.value.turn_id)
        assert (len(ids), runs) == (1, 1)
