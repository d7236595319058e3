"""Answers of a shared store that are lost, late or refused: no turn is stuck, none runs twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pool import AgentPool, AgentSpec
from pool.errors import StoreUnavailable
from pool.store.base import SessionKey
from tests.support.agents import Held
from tests.support.cautious import cautious
from tests.support.cluster import LEASE_S, Cluster
from tests.support.faulty import FaultyView, faulty

S1 = SessionKey("default", "s1")


async def states(on: Cluster[FaultyView]) -> list[str]:
    """How the turns of the session are, as the store has it."""
    return [turn.state for turn in (await on.store.turns(S1, None, 10)).items]


async def test_a_turn_whose_acceptance_was_not_heard_does_not_block_its_session() -> None:
    """Its caller was told that it was refused: it is cancelled, and later turns run."""
    agent = Held()
    async with faulty(agent, Held()) as on:
        a, b = on.pools
        await agent.let_all()
        on.views[0].lose("accept")
        with pytest.raises(StoreUnavailable):
            await a.submit("one", session="s1")
        await asyncio.sleep(5)
        turn = await a.submit("two", session="s1", deadline_s=20)
        assert (await b.wait(turn.id, timeout_s=60)).state == "completed"
        assert await states(on) == ["cancelled", "completed"]


async def test_an_acceptance_that_was_not_heard_counts_for_who_repeats_it() -> None:
    """With an idempotency key the caller who tries again gets that very turn, and it runs once."""
    agent = Held()
    async with faulty(agent, Held()) as on:
        a, _ = on.pools
        await agent.let_all()
        on.views[0].lose("accept")
        with pytest.raises(StoreUnavailable):
            await a.submit("one", session="s1", idempotency_key="k")
        turn = await a.submit("one", session="s1", idempotency_key="k")
        assert (await a.wait(turn.id, timeout_s=60)).state == "completed"
        assert agent.started == ["one"]
        assert await states(on) == ["completed"]


async def test_an_acceptance_that_was_not_heard_in_a_session_that_is_held() -> None:
    """The turn has neither a letter nor a place here: it is cleared up, the session released."""
    agent, other = Held(), Held()
    async with faulty(agent, other) as on:
        a, b = on.pools
        one = await a.submit("one", session="s1")
        await agent.until_started(1)
        on.views[0].lose("accept")
        with pytest.raises(StoreUnavailable):
            await a.submit("two", session="s1")
        await asyncio.sleep(5)
        assert await states(on) == ["running", "cancelled"]
        await agent.let_all()
        await other.let_all()
        await a.wait(one.id)
        assert (await b.ask("three", session="s1")).state == "completed"
        assert a.stats().sessions == 0


async def test_everything_that_is_doubtful_after_an_outage_is_cleared_up() -> None:
    """However many turns were refused in it, soon none of them is in doubt, or runs."""
    agent = Held()
    async with faulty(agent, Held(), queue_max=10) as on:
        a, _ = on.pools
        await agent.let_all()
        view = on.views[0]
        view.cut()
        for n in range(1_000):
            with pytest.raises(StoreUnavailable):
                await a.submit("x", session=f"t{n}")
        view.calls.clear()
        view.mend()
        await asyncio.sleep(10)
        assert view.calls.count("turn") == 1_000
        view.calls.clear()
        await asyncio.sleep(10)
        assert view.calls.count("turn") == 0
        assert agent.started == []
        assert (await a.ask("next", session="s1")).state == "completed"


async def test_a_claim_whose_answer_was_lost_is_made_again() -> None:
    """The store thinks that the session has a holder: nobody else would ever look at it."""
    agent, other = Held(), Held()
    async with faulty(agent, other) as on:
        a, b = on.pools
        await other.let_all()
        turn = await a.submit("one", session="s1", deadline_s=100)
        await agent.until_started(1)
        on.views[0].die()
        on.views[1].lose("claim")
        assert (await b.wait(turn.id, timeout_s=200)).state == "completed"


async def test_a_store_that_goes_away_right_after_a_claim() -> None:
    """What is read after it is read when the store is back, and the session's turns go on."""
    agent, other = Held(), Held()
    async with faulty(agent, other) as on:
        a, b = on.pools
        await other.let_all()
        turn = await a.submit("one", session="s1", deadline_s=100)
        await agent.until_started(1)
        on.views[0].die()
        view = on.views[1]
        view.after("claim", lambda: view.fail("inbox", "replicas", times=3))
        ended = await b.wait(turn.id, timeout_s=200)
        assert (ended.state, ended.attempt) == ("completed", 2)


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "refused"])
async def test_a_release_that_was_not_heard(lost: bool) -> None:
    """What a drain gave back, or could not give back, runs elsewhere once, when it has ended."""
    agent, other = Held(), Held()
    async with faulty(agent, other) as on:
        a, _ = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        if lost:
            on.views[0].lose("release")
        else:
            on.views[0].fail("release", times=1)
        await a.close()
        await other.let_all()
        await asyncio.sleep(LEASE_S)
        assert await states(on) == ["completed"]
        assert other.started == ["one"]


async def test_a_session_that_waits_for_the_store_does_not_keep_others_from_being_claimed() -> None:
    """One claim is not answered for minutes; what another process leaves is taken over in time."""
    first, second, third = Held(), Held(), Held()
    async with faulty(first, second, third) as on:
        a, _, c = on.pools
        await second.let_all()
        await a.submit("x", session="t0")
        await c.submit("y", session="t1")
        await first.until_started(1)
        await third.until_started(1)
        on.views[1].delay("claim", by_s=300, times=1)
        on.views[2].fail("claim")
        on.views[0].die()
        await asyncio.sleep(LEASE_S + 3)
        on.views[2].die()
        await asyncio.sleep(LEASE_S + 3)
        assert second.ended == ["y"]
        await asyncio.sleep(300)
        assert second.ended == ["y", "x"]


async def test_an_inbox_that_cannot_be_read_while_a_turn_is_taken() -> None:
    """The store has the turn: it is run, and gives its place in the queue back."""
    agent = Held()
    async with faulty(agent, Held()) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        on.views[0].fail("inbox", times=2)
        await b.submit("two", session="s1")
        await a.submit("three", session="s1", deadline_s=200)
        await agent.let_all()
        await asyncio.sleep(60)
        assert await states(on) == ["completed"] * 3
        assert agent.started == ["one", "two", "three"]
        assert a.stats().agents[0].waiting == 0


async def test_an_inbox_read_that_is_answered_late_brings_no_ended_turn_back() -> None:
    """A turn that expires while letters are read is not adopted anew: it ends once."""
    agent, other = Held(), Held()
    third = Held()
    async with faulty(agent, other, third) as on:
        a, b, c = on.pools
        on.views[2].fail("claim")
        one = await a.submit("one", session="s1")
        await agent.until_started(1)
        on.views[0].hold()
        await asyncio.sleep(1)
        two = await c.submit("two", session="s1", deadline_s=5)
        on.views[1].delay("inbox", by_s=0.5)
        await asyncio.sleep(LEASE_S + 10)
        assert await states(on) == ["running", "expired"]
        assert b.stats().turns == 1
        await other.let_all()
        assert (await b.wait(one.id)).attempt == 2
        reader = await b.watch_turn(two.id)
        events = await reader.take()
        reader.close()
        assert [event.terminal for event in events].count(True) == 1
        assert (other.started, other.cancelled) == (["one"], [])
        on.views[0].go_on()


async def test_events_told_between_two_tries_of_a_commit_are_kept() -> None:
    """A turn is queued while the commit's answer is lost: the session goes on, undisturbed."""
    agent = Held()
    async with faulty(agent, Held()) as on:
        a, b = on.pools
        one = await a.submit("one", session="s1")
        await agent.until_started(1)
        await a.submit("two", session="s1")
        view, committed = on.views[0], asyncio.Event()

        def keep_it_trying() -> None:
            view.fail("commit", times=2)
            committed.set()

        view.lose("commit")
        view.after("commit", keep_it_trying)
        await agent.let("one")
        await committed.wait()
        three = await a.submit("three", session="s1")
        await agent.let_all()
        assert (await b.wait(three.id, timeout_s=60)).state == "completed"
        assert agent.started == ["one", "two", "three"]
        assert agent.cancelled == []
        assert await states(on) == ["completed"] * 3
        reader = await b.watch_session("s1", after=await on.store.turn_start(one.id))
        events = await reader.take(1_000)
        reader.close()
        assert [event.type for event in events].count("turn.queued") == 3
        assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_a_decision_that_was_kept_is_acted_on_although_the_store_goes_away() -> None:
    """Neither an inbox that cannot be read nor a write that fails loses it."""
    async with faulty(cautious(), cautious()) as on:
        a, b = on.pools
        turn = await a.ask("pay", session="s1", on_disconnect="continue")
        on.views[0].fail("inbox", times=1)
        on.views[0].fail("append", times=2)
        await b.decide(turn.id, "c1", "approve")
        assert (await b.wait(turn.id, timeout_s=60)).state == "completed"


async def _decide(pool: AgentPool, turn_id: str) -> None:
    await pool.decide(turn_id, "c1", "approve")


async def _cancel(pool: AgentPool, turn_id: str) -> None:
    await pool.cancel(turn_id)


@pytest.mark.parametrize(
    ("act", "state"), [(_decide, "completed"), (_cancel, "cancelled")], ids=["decision", "cancel"]
)
async def test_what_was_said_of_a_turn_is_found_although_its_nudge_was_lost(
    act: Callable[[AgentPool, str], Awaitable[None]], state: str
) -> None:
    """The holder looks into its inboxes by itself, within a lease."""
    async with faulty(cautious(), cautious()) as on:
        a, b = on.pools
        turn = await a.ask("pay", session="s1", on_disconnect="continue")
        on.views[0].deaf = True
        await act(b, turn.id)
        assert (await b.wait(turn.id, timeout_s=LEASE_S)).state == state


async def test_a_turn_that_was_handed_over_starts_although_its_nudge_was_lost() -> None:
    """It is found where the session is, before its deadline."""
    agent = Held()
    async with faulty(agent, Held()) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        on.views[0].deaf = True
        turn = await b.submit("two", session="s1", deadline_s=LEASE_S)
        await asyncio.sleep(LEASE_S / 2)
        await agent.let_all()
        assert (await b.wait(turn.id)).state == "completed"


async def test_who_waits_for_a_turn_elsewhere_waits_out_an_outage() -> None:
    """A store that does not answer for a while is no answer to them."""
    agent = Held()
    async with faulty(agent, Held()) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        asking = asyncio.create_task(b.ask("two", session="s1", on_disconnect="continue"))
        await asyncio.sleep(1)
        on.views[1].fail("turn", "events", "watch", times=3)
        await asyncio.sleep(10)
        await agent.let_all()
        assert (await asking).state == "completed"


async def test_who_stops_waiting_for_a_turn_elsewhere_leaves_nothing_running() -> None:
    """Callers who leave take their readers and tasks along."""
    agent = Held()
    async with faulty(agent, Held()) as on:
        a, b = on.pools
        turn = await a.submit("one", session="s1")
        await agent.until_started(1)
        await asyncio.sleep(1)
        before = len(asyncio.all_tasks())
        for _ in range(5):
            waiting = asyncio.create_task(b.wait(turn.id))
            await asyncio.sleep(0.5)
            waiting.cancel()
            await asyncio.sleep(0.5)
        assert len(asyncio.all_tasks()) == before
        assert b.stats().sessions == 0


async def test_a_wait_with_a_timeout_answers_in_time_while_an_end_cannot_be_stored() -> None:
    """The turn is shown as running: how it ends is only certain when the store has it."""
    agent = Held()
    async with faulty(agent) as on:
        (a,) = on.pools
        turn = await a.submit("one", session="s1")
        await agent.until_started(1)
        on.views[0].fail("commit")
        await agent.let_all()
        began = asyncio.get_running_loop().time()
        assert (await a.wait(turn.id, timeout_s=1)).state == "running"
        assert asyncio.get_running_loop().time() - began == pytest.approx(1, abs=0.1)
        on.views[0].recover()
        assert (await a.wait(turn.id)).state == "completed"


async def test_a_store_that_is_away_is_not_asked_by_every_turn_that_talks() -> None:
    """200 running turns try it as seldom as one; when it is back each has all its words."""

    async def talk(text: str) -> AsyncIterator[str]:
        for _ in range(20):
            await asyncio.sleep(1)
            yield "word "

    async with faulty(AgentSpec(agent=talk, max=200, min=200)) as on:
        (a,) = on.pools
        turns = [await a.submit("hi", session=f"t{n}") for n in range(200)]
        await asyncio.sleep(3)
        view = on.views[0]
        view.fail("append")
        view.calls.clear()
        await asyncio.sleep(10)
        # all of them were about to write when it went away
        assert 200 < view.calls.count("append") < 250
        view.recover()
        ended = [await a.wait(turn.id) for turn in turns]
        assert {turn.output for turn in ended} == {"word " * 20}


async def test_a_replica_of_another_version_is_passed_over() -> None:
    """What it says of itself cannot be read: upkeep goes on, and the pool closes as ever."""
    agent = Held()
    async with faulty(agent, Held()) as on:
        a, b = on.pools
        turn = await a.submit("one", session="s1")
        await agent.until_started(1)
        await on.store.join("replica-new", lambda nudge: None)
        on.store.announce("replica-new", b'{"format":2}')
        await asyncio.sleep(3)
        on.views[0].die()
        await asyncio.sleep(LEASE_S + 3)
        assert (await b.turn(turn.id)).attempt == 2
        await on.store.leave("replica-new")
