"""Turns that move between processes: each runs to one end, as its caller wanted, wherever it is."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from pool import AgentPool, AgentSpec
from pool.agent import Context, TurnEnd, TurnInput
from pool.errors import Conflict
from pool.events import Event, TextDelta
from pool.store.base import SessionKey
from tests.support.agents import Held, Scripted, Stubborn, Talking, said
from tests.support.cluster import LEASE_S, read_into
from tests.support.faulty import fail_over, faulty

S1 = SessionKey("default", "s1")


# --- sessions that are lost, and come back


async def test_a_session_whose_newest_events_were_lost_is_taken_up_again() -> None:
    """The store still has this process for the holder: nobody else would ever go on with it."""
    agent = Talking()
    async with faulty(agent, Talking()) as on:
        a, b = on.pools
        turn = await a.submit("one * two", session="s1", deadline_s=100)
        await asyncio.sleep(1)
        fail_over(on.store, S1)
        agent.go_on()
        await asyncio.sleep(1)
        agent.go_on()
        ended = await b.wait(turn.id, timeout_s=50)
        assert (ended.state, ended.output, ended.attempt) == ("completed", "one two ", 2)


async def test_a_turn_that_came_back_before_its_old_agent_had_stopped_can_be_cancelled() -> None:
    """The old one does not take the new one's place in the session along."""
    runs: list[int] = []

    async def slow(turn: TurnInput, ctx: Context) -> TurnEnd:
        runs.append(ctx.attempt)
        await ctx.emit(TextDelta("hello "))
        try:
            while True:
                await asyncio.sleep(1)
                await ctx.emit(TextDelta("and "))
        finally:
            if ctx.attempt == 1:
                await asyncio.sleep(3)

    async with faulty(AgentSpec(agent=lambda: Scripted(slow), max=2, min=2), Held()) as on:
        a, b = on.pools
        turn = await a.submit("one", session="s1")
        await asyncio.sleep(1.6)
        fail_over(on.store, S1)
        await asyncio.sleep(8)
        assert runs == [1, 2]
        await b.cancel(turn.id)
        assert (await a.wait(turn.id, timeout_s=5)).state == "cancelled"
        assert a.stats().turns == 0


async def test_what_an_agent_says_in_a_session_that_was_lost_reaches_nobody() -> None:
    """It is told so: its turn begins anew elsewhere, with words of its own."""
    refused: list[str] = []

    async def polite(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(TextDelta("hello "))
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            try:
                await ctx.emit(TextDelta("goodbye "))
            except Conflict as error:
                refused.append(error.code)
        return TurnEnd()

    async with faulty(AgentSpec(agent=lambda: Scripted(polite)), Talking()) as on:
        a, _ = on.pools
        turn = await a.submit("one two", session="s1")
        seen: list[Event] = []
        reading = asyncio.create_task(read_into(seen, a, turn.id))
        await asyncio.sleep(1)
        on.views[0].hold()
        await asyncio.sleep(LEASE_S + 2)
        on.views[0].go_on()
        await asyncio.wait_for(reading, 30)
        await asyncio.sleep(5)
        assert refused == [Conflict.code]
        assert "goodbye " not in [e.text for e in seen if isinstance(e, TextDelta)]
        assert said(seen) == "one two "


async def test_who_asked_is_told_what_the_store_has() -> None:
    """Another process ended the turn while its end could not be stored here: that end counts, also
    if the session has come back in between.
    """
    agent = Held()
    async with faulty(agent, Talking()) as on:
        a, b = on.pools
        asking = asyncio.create_task(a.ask("one", session="s1", on_disconnect="continue"))
        await agent.until_started(1)
        on.views[0].cut()
        await agent.let_all()
        await asyncio.sleep(LEASE_S + 5)
        on.views[0].mend()
        second = await a.ask("two", session="s1", on_disconnect="continue")
        first = await asking
        assert (first.state, first.output) == ("completed", "one ")
        assert (await b.turn(first.id)).output == first.output
        assert second.output == "done: two"


async def test_an_agent_did_not_fail_because_its_session_was_lost_as_it_started() -> None:
    """Taken over, and lost before the store had heard of its start: the log blames nobody."""
    agents = [Held(), Held(), Held()]
    async with faulty(*agents) as on:
        a, _, c = on.pools
        _, second, third = on.views
        turn = await a.submit("one", session="s1")
        await agents[0].until_started(1)
        third.fail("claim", times=5)
        # the last thing before the turn is started
        second.after("inbox", lambda: second.after("inbox", second.hold))
        on.views[0].die()
        await agents[2].until_started(1)
        assert agents[1].started == []
        with capture_logs() as logged:
            second.go_on()
            await asyncio.sleep(5)
        assert [entry["event"] for entry in logged if entry["log_level"] == "error"] == []
        assert agents[1].started == []
        await agents[2].let_all()
        assert (await c.wait(turn.id)).output == "done: one"


async def test_nothing_is_left_of_turns_that_have_moved() -> None:
    """No permit, no place in the queue, no session: here or elsewhere."""
    agents = [Held(), Held()]
    async with faulty(*(AgentSpec(agent=agent, max=2, min=2) for agent in agents)) as on:
        a, _ = on.pools
        for n in range(6):
            await a.submit("x", session=f"t{n}")
        await agents[0].until_started(2)
        on.views[0].hold()
        await asyncio.sleep(LEASE_S + 3)
        on.views[0].go_on()
        await asyncio.sleep(3)
        for agent in agents:
            await agent.let_all()
        await asyncio.sleep(60)
        for pool in on.pools:
            stats = pool.stats()
            (of,) = stats.agents
            assert (of.waiting, of.queued, of.limit.held, of.actors.busy) == (0, 0, 0, 0)
            assert (stats.turns, stats.sessions) == (0, 0)


# --- what callers want


async def test_a_turn_that_a_full_replica_gives_away_is_its_caller_s_still() -> None:
    """`ask` cancels when its caller leaves: here the caller waits, so the turn runs."""
    agent, other = Held(), Held()
    async with faulty(
        AgentSpec(agent=agent, max=1, min=1), AgentSpec(agent=other, max=4, min=4)
    ) as on:
        a, _ = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        await other.let_all()
        turn = await a.ask("two", session="t")
        assert turn.state == "completed"
        assert other.started == ["two"]


async def test_a_turn_that_was_given_away_is_cancelled_when_its_caller_leaves() -> None:
    """Even if the store cannot be reached at that moment: nobody wants the answer any more."""
    agent, other = Held(), Held()
    async with faulty(
        AgentSpec(agent=agent, max=1, min=1), AgentSpec(agent=other, max=4, min=4)
    ) as on:
        a, _ = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        asking = asyncio.create_task(a.ask("two", session="t"))
        await other.until_started(1)
        on.views[0].fail("signal", times=3)
        asking.cancel()
        await asyncio.sleep(5)
        assert other.cancelled == ["two"]


async def test_a_cancel_is_not_forgotten_with_the_process_that_was_told() -> None:
    """Its agent took no notice before the process died: the turn is not run again elsewhere."""
    stubborn, other = Stubborn(), Held()
    async with faulty(AgentSpec(agent=stubborn, max=2, min=2), other) as on:
        a, b = on.pools
        turn = await a.submit("one", session="s1")
        await stubborn.running.wait()
        assert (await a.cancel(turn.id)).state == "running"
        on.views[0].die()
        await other.let_all()
        assert (await b.wait(turn.id)).state == "cancelled"
        assert other.started == []
        stubborn.release.set()


async def test_cancelled_turns_are_cancelled_although_their_session_is_handed_back() -> None:
    """A cancel that is on its way to the store as a drain begins is not overtaken by it."""
    agent, other = Held(), Held()
    async with faulty(agent, other) as on:
        a, b = on.pools
        one = await a.submit("one", session="s1")
        await agent.until_started(1)
        two = await a.submit("two", session="s1")
        on.views[0].delay("commit", by_s=1.0)
        on.views[0].delay("append", by_s=0.3)
        three = await a.submit("three", session="s1")
        draining = asyncio.create_task(a.drain(deadline_s=2))
        await a.cancel(two.id)
        await asyncio.sleep(0.1)
        await a.cancel(three.id)
        await other.let_all()
        await draining
        ended = [await b.wait(turn.id, timeout_s=50) for turn in (one, two, three)]
        assert [turn.state for turn in ended] == ["completed", "cancelled", "cancelled"]
        assert other.started == ["one"]


async def test_an_interrupt_at_the_moment_at_which_the_holder_dies() -> None:
    """The turn that was interrupted is not begun again, and those after it run in their order."""
    agents = [Held(), Held()]
    async with faulty(*agents) as on:
        a, b = on.pools
        one = await a.submit("one", session="s1")
        await agents[0].until_started(1)
        on.views[0].die()
        two = await b.submit("two", session="s1", if_busy="interrupt")
        three = await b.submit("three", session="s1")
        await agents[1].let_all()
        ended = [await b.wait(turn.id, timeout_s=100) for turn in (one, two, three)]
        assert [turn.state for turn in ended] == ["interrupted", "completed", "completed"]
        assert agents[1].started == ["two", "three"]


async def test_a_turn_asked_within_another_ends_with_it_elsewhere() -> None:
    """Its deadline is no later than that of the turn that waits for it, wherever it runs."""
    inner = Held()

    class Outer:
        pool: AgentPool

        async def __call__(self, text: str) -> str:
            asked = await self.pool.ask("inner", session="s1", agent="b", deadline_s=600)
            return asked.output

    outers = [Outer(), Outer()]
    async with faulty(*({"a": outer, "b": inner} for outer in outers)) as on:
        a, b = on.pools
        outers[0].pool, outers[1].pool = a, b
        await b.submit("hold", session="s1", agent="b")
        await inner.until_started(1)
        turn = await a.submit("out", session="o", agent="a", deadline_s=30)
        await asyncio.sleep(31)
        assert (await a.turn(turn.id)).state == "expired"
        turns = (await on.store.turns(S1, None, 10)).items
        assert turns[0].state == "running"
        assert turns[1].state in ("cancelled", "expired")


# --- who can run them


async def test_a_turn_of_an_agent_that_only_another_process_has_is_left_to_it() -> None:
    """While a new agent is rolled out, those without it fail none of its turns."""
    old_agent, agent = Held(), Held()
    async with faulty({"a": old_agent}, {"a": agent, "b": agent}) as on:
        old, new = on.pools
        await agent.let_all()
        first = await old.submit("x", session="s1", agent="a")
        await old_agent.until_started(1)
        turn = await new.submit("y", session="s1", agent="b")
        await asyncio.sleep(1)
        await old_agent.let_all()
        assert (await old.wait(first.id)).state == "completed"
        assert (await new.wait(turn.id, timeout_s=30)).state == "completed"
        assert old_agent.started == ["x"]


async def test_a_turn_of_an_agent_that_nobody_has_fails() -> None:
    """The only process that served it is gone: its caller is told why."""
    agent = Held()
    async with faulty({"a": Held(), "b": agent}, {"a": Held()}) as on:
        a, b = on.pools
        turn = await a.submit("x", session="s1", agent="b")
        await agent.until_started(1)
        on.views[0].die()
        ended = await b.wait(turn.id, timeout_s=60)
        assert ended.state == "failed"
        assert ended.error is not None and "not served" in ended.error.detail


async def test_a_turn_that_never_began_is_no_dead_letter() -> None:
    """Its holder died before it read of it: that was no attempt."""
    agent, other = Held(), Held()
    async with faulty(agent, other, max_attempts=1) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        on.views[0].die()
        two = await b.submit("two", session="s1")
        await other.let_all()
        ended = await b.wait(two.id)
        assert (ended.state, ended.attempt) == ("completed", 1)
        assert other.started == ["two"]
