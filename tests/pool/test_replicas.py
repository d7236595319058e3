"""Several pools on one store act as one: what is asked of one is done, wherever the turn runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pool import AgentPool, AgentSpec
from pool.agent import Context, Decision, ToolCall, TurnEnd, TurnInput
from pool.errors import Conflict, DeadLetter, SessionBusy
from pool.events import Event, HistoryLost, TurnStarted
from pool.observer import Notice, TurnMovedNotice
from pool.store.base import SessionKey
from pool.store.memory import MemoryStore
from pool.turn import Principal
from tests.support.agents import (
    Crashing,
    Held,
    Scripted,
    Talking,
    collected,
    pooled,
    said,
    ticks,
    wall,
)
from tests.support.cautious import cautious
from tests.support.cluster import LEASE_S, cluster, read_into
from tests.support.stores import View


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


def dense(events: Sequence[Event]) -> bool:
    """Whether there is no gap, and no event twice, but where a reader was told so."""
    places = [event.seq for event in events]
    return all(
        after == before + 1 or isinstance(event, HistoryLost)
        for before, after, event in zip(places, places[1:], events[1:], strict=False)
    )


async def test_a_turn_of_a_dead_replica_runs_again_elsewhere() -> None:
    """Within the lease and a second another replica begins it anew, with the next attempt."""
    agent = Held()
    async with cluster(agent, Talking()) as on:
        a, b = on.pools
        turn = await a.submit("hello there", session="s1")
        await agent.until_started(1)
        died = now()
        on.views[0].die()
        ended = await b.wait(turn.id)
        assert now() - died <= LEASE_S + 1
        assert (ended.state, ended.output, ended.attempt) == ("completed", "hello there ", 2)


async def test_a_turn_that_had_not_begun_is_not_begun_again() -> None:
    """What waited in line when its process died starts elsewhere with its first attempt."""
    agent = Held()
    async with cluster(agent, Talking()) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        turn = await a.submit("two", session="s1")
        on.views[0].die()
        ended = await b.wait(turn.id)
        assert (ended.state, ended.attempt) == ("completed", 1)


async def test_a_new_turn_goes_behind_what_a_dead_replica_left() -> None:
    """Whoever accepts a turn for a session that was left behind takes over all of it."""
    agent, other = Held(), Held()
    async with cluster(agent, other) as on:
        a, b = on.pools
        first = await a.submit("one", session="s1")
        await agent.until_started(1)
        second = await a.submit("two", session="s1")
        on.views[0].die()
        # the instant at which its lease is over, before anybody has looked for orphans
        await on.views[1].store.leave("replica-0")
        third = await b.submit("three", session="s1")
        await other.let_all()
        ended = [await b.wait(turn.id) for turn in (first, second, third)]
        assert [turn.state for turn in ended] == ["completed"] * 3
        assert other.started == ["one", "two", "three"]


async def test_a_turn_for_a_session_held_elsewhere_is_handed_over() -> None:
    """It runs where the session is, in the order of acceptance, and is answered where asked."""
    agent = Held()
    async with cluster(agent, Held()) as on:
        a, b = on.pools
        first = await a.submit("one", session="s1")
        await agent.until_started(1)
        asking = asyncio.create_task(b.ask("two", session="s1"))
        await asyncio.sleep(0.1)
        third = await a.submit("three", session="s1")
        await agent.let_all()
        second = await asking
        assert [t.state for t in (await a.wait(first.id), second, await b.wait(third.id))] == [
            "completed"
        ] * 3
        assert agent.started == ["one", "two", "three"]


async def test_a_turn_accepted_here_waits_for_letters_that_came_before_it() -> None:
    """However late the holder learns of a turn, those accepted after it run after it."""
    agent = Held()
    async with cluster(agent, Held()) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        # accepted side by side: the nudge about the one is still on its way
        await asyncio.gather(b.submit("two", session="s1"), _later(a, "three"))
        await agent.let_all()
        await asyncio.sleep(2)
        turns = (await a.store.turns(SessionKey("default", "s1"), None, 10)).items
        assert agent.started == [turn.input for turn in turns]


async def _later(pool: AgentPool, text: str) -> None:
    await asyncio.sleep(0)
    await pool.submit(text, session="s1")


async def test_a_turn_is_cancelled_wherever_it_runs() -> None:
    """Cancelling it at another replica stops it soon, and says so."""
    agent = Held()
    async with cluster(agent, Held()) as on:
        a, b = on.pools
        turn = await a.submit("one", session="s1")
        await agent.until_started(1)
        cancelled = await b.cancel(turn.id)
        assert cancelled.state == "cancelled"
        assert agent.cancelled == ["one"]
        assert (await a.turn(turn.id)).state == "cancelled"


async def test_busy_sessions_are_busy_everywhere() -> None:
    """`reject` is refused at every replica; `interrupt` stops the turn that runs at another."""
    agent = Held()
    async with cluster(agent, Held()) as on:
        a, b = on.pools
        turn = await a.submit("one", session="s1")
        await agent.until_started(1)
        with pytest.raises(SessionBusy):
            await b.submit("two", session="s1", if_busy="reject")
        await agent.let("three")
        assert (await b.ask("three", session="s1", if_busy="interrupt")).output == "done: three"
        assert (await b.turn(turn.id)).state == "interrupted"


async def test_the_same_idempotency_key_is_one_turn_at_all_replicas() -> None:
    """A hundred requests at two replicas at once are one run."""
    agent = Held()
    other = Held()
    async with cluster(agent, other) as on:
        submitted = [
            on.pools[n % 2].submit("one", session="s1", idempotency_key="k") for n in range(100)
        ]
        turns = await asyncio.gather(*submitted)
        assert len({turn.id for turn in turns}) == 1
        await agent.let_all()
        await other.let_all()
        await on.pools[0].wait(turns[0].id)
        assert len(agent.started) + len(other.started) == 1


async def test_a_turn_is_read_live_at_another_replica() -> None:
    """Each word arrives within an instant, with no gap and no duplicate, to the end."""
    agent = Talking()
    async with cluster(agent, Talking()) as on:
        a, b = on.pools
        turn = await a.submit("one * two * three", session="s1")
        seen: list[Event] = []
        reading = asyncio.create_task(read_into(seen, b, turn.id))
        await asyncio.sleep(1)
        assert said(seen) == "one "
        agent.go_on()
        await asyncio.sleep(0.1)
        assert said(seen) == "one two "
        agent.go_on()
        await reading
        assert said(seen) == "one two three "
        assert seen[-1].terminal
        assert dense(seen)


async def test_a_session_is_watched_wherever_its_turns_run() -> None:
    """A reader that waits at one replica sees the turns of another, and then of a third."""
    async with cluster(Talking(), Talking(), Talking()) as on:
        a, b, c = on.pools
        await a.ask("zero", session="s1")
        reader = await a.watch_session("s1")
        await a.ask("one", session="s1")
        await b.ask("two", session="s1")
        await asyncio.sleep(1)
        await c.ask("three", session="s1")
        await asyncio.sleep(1)
        await a.ask("four", session="s1")
        events = await reader.take()
        reader.close()
        assert [e.type for e in events].count("turn.completed") == 4
        assert dense([e for e in events if e.type != "text.delta"]) or dense(events)
        await asyncio.sleep(1)
        assert all(pool.stats().sessions == 0 for pool in on.pools)


async def test_a_reader_learns_what_its_dead_replica_had_not_stored() -> None:
    """What a turn said and did not store is lost with its process; resuming says so."""
    agent, other = Talking(), Talking()
    async with cluster(agent, other) as on:
        a, b = on.pools
        turn = await a.submit("one *", session="s1")
        await asyncio.sleep(1)
        agent.go_on()
        seen: list[Event] = []
        reading = asyncio.create_task(read_into(seen, b, turn.id))
        await asyncio.sleep(1)
        on.views[0].die()
        other.go_on()
        await reading
        assert [e.attempt for e in seen if isinstance(e, TurnStarted)] in ([1, 2], [1])
        assert said(seen) == "one "


async def test_a_stopped_replica_lets_go() -> None:
    """Past its lease another has the turn: what it writes then is refused; its callers are told how
    the turn ended elsewhere.
    """
    agent, other = Held(), Held()
    async with cluster(agent, other) as on:
        a, b = on.pools
        asking = asyncio.create_task(a.ask("one", session="s1", on_disconnect="continue"))
        await agent.until_started(1)
        on.views[0].hold()
        await other.until_started(1)
        await agent.let_all()
        on.views[0].go_on()
        await asyncio.sleep(1)
        await other.let_all()
        turn = await asking
        assert (turn.state, turn.attempt, turn.output) == ("completed", 2, "done: one")
        events = await collected(b.events(turn.id))
        assert [e.terminal for e in events].count(True) == 1
        assert (await a.ask("two", session="s1")).state == "completed"


async def test_an_agent_is_cancelled_when_its_session_was_lost() -> None:
    """The turn runs elsewhere: going on here would be for nothing."""
    agent, other = Held(), Held()
    async with cluster(agent, other) as on:
        a, _ = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        on.views[0].hold()
        await other.until_started(1)
        on.views[0].go_on()
        await a.cancel((await a.submit("two", session="s1")).id)
        await asyncio.sleep(1)
        assert agent.cancelled == ["one"]
        assert a.stats().turns == 0


async def test_a_turn_that_ends_every_process_is_a_dead_letter() -> None:
    """After `max_attempts` processes nobody begins it again; it is listed, and others go on."""
    agents = [Held() for _ in range(4)]
    async with cluster(*agents, max_attempts=3) as on:
        alive = [0, 1, 2, 3]
        turn = await on.pools[0].submit("poison", session="s1")
        await agents[0].until_started(1)
        for _ in range(3):
            at = next(n for n in alive if agents[n].running)
            alive.remove(at)
            on.views[at].die()
            await asyncio.sleep(LEASE_S + 2)
        (left,) = alive
        ended = await on.pools[left].wait(turn.id)
        assert ended.state == "failed"
        assert ended.error is not None and ended.error.code == DeadLetter.code
        assert [t.id for t in await on.views[left].dead_letters(None, 10)] == [turn.id]
        await agents[left].let_all()
        assert (await on.pools[left].ask("next", session="s1")).state == "completed"


async def test_a_caller_that_died_with_its_process_wanted_its_turn_cancelled() -> None:
    """A turn that was to be cancelled on disconnect is, when its process is found dead."""
    agent = Held()
    async with cluster(agent, Held()) as on:
        a, b = on.pools
        turn = await a.submit("one", session="s1", on_disconnect="cancel")
        await agent.until_started(1)
        on.views[0].die()
        assert (await b.wait(turn.id)).state == "cancelled"


async def test_an_approval_is_given_at_any_replica() -> None:
    """The turn goes on where it paused; a second decision, anywhere, is a conflict."""
    async with cluster(cautious(), cautious()) as on:
        a, b = on.pools
        turn = await a.ask("pay", session="s1")
        assert turn.state == "waiting"
        await b.decide(turn.id, "c1", "approve", reason="go")
        ended = await b.wait(turn.id)
        assert (ended.state, ended.output) == ("completed", "b'asked' allow 1")
        for pool in on.pools:
            with pytest.raises(Conflict):
                await pool.decide(turn.id, "c1", "deny")
        again = await b.decide(turn.id, "c1", "approve", repeat=True)
        assert again.state == "completed"
        with pytest.raises(Conflict):
            await b.decide(turn.id, "c1", "deny", repeat=True)


async def test_a_pause_survives_its_process() -> None:
    """Another replica takes the paused turn over, and goes on with it when it is approved."""
    async with cluster(cautious(), cautious()) as on:
        a, b = on.pools
        turn = await a.ask("pay", session="s1", on_disconnect="continue")
        on.views[0].die()
        await asyncio.sleep(LEASE_S + 2)
        await b.decide(turn.id, "c1", "approve")
        ended = await b.wait(turn.id)
        assert (ended.state, ended.output) == ("completed", "b'asked' allow 1")


async def test_a_decision_for_a_dead_process_is_found_by_the_next() -> None:
    """What was decided while nobody held the session counts for whoever takes it over."""
    async with cluster(cautious(), cautious()) as on:
        a, b = on.pools
        turn = await a.ask("pay", session="s1", on_disconnect="continue")
        on.views[0].die()
        await b.decide(turn.id, "c1", "deny")
        ended = await b.wait(turn.id)
        assert ended.output == "b'asked' deny 1"


async def test_a_drain_hands_back_what_it_does_not_finish() -> None:
    """What waits goes at once, what runs when the time is over; both run elsewhere, once each."""
    agent, other = Held(), Held()
    async with cluster(agent, other) as on:
        a, b = on.pools
        running = await a.submit("one", session="s1")
        queued = await a.submit("two", session="s1")
        alone = await a.submit("three", session="s2")
        await agent.until_started(2)
        asking = asyncio.create_task(a.ask("four", session="s1", on_disconnect="continue"))
        await ticks()
        await other.let_all()
        began = now()
        await a.drain(deadline_s=5)
        assert now() - began <= 5 + a.config.cancel_grace_s
        assert a.stats().turns == 0
        assert (await asking).state == "completed"
        ended = [await b.wait(turn.id) for turn in (running, queued, alone)]
        assert [turn.state for turn in ended] == ["completed"] * 3
        assert [turn.attempt for turn in ended] == [2, 1, 2]


async def test_a_drain_gives_what_waits_to_others_at_once() -> None:
    """A session in which nothing runs is another's before the drain's time is over."""
    agent, other = Held(), Held()
    async with cluster(AgentSpec(agent=agent, max=1), other) as on:
        a, b = on.pools
        await a.submit("one", session="s1")
        await agent.until_started(1)
        turns = [await a.submit(f"{n}", session=f"t{n}") for n in range(3)]
        await other.let_all()
        draining = asyncio.create_task(a.drain(deadline_s=100))
        for turn in turns:
            assert (await b.wait(turn.id)).state == "completed"
        assert now() < 50
        await agent.let_all()
        await draining
        assert agent.ended == ["one"]


async def test_a_full_replica_gives_turns_to_one_with_room() -> None:
    """They start at once where an actor is idle, instead of waiting here."""
    agent, other = Held(), Held()
    async with cluster(
        AgentSpec(agent=agent, max=1, min=1), AgentSpec(agent=other, max=4, min=4)
    ) as on:
        a, _ = on.pools
        first = await a.submit("one", session="s1")
        await agent.until_started(1)
        asking = [
            asyncio.create_task(a.ask(f"{n}", session=f"t{n}", on_disconnect="continue"))
            for n in range(4)
        ]
        await other.until_started(4)
        await other.let_all()
        assert [(await each).state for each in asking] == ["completed"] * 4
        assert agent.started == ["one"]
        await agent.let_all()
        assert (await a.wait(first.id)).state == "completed"


async def test_all_replicas_are_seen_at_each() -> None:
    """The state of the pool shows the other processes and how they fare."""
    async with cluster(Held(), Held(), Held()) as on:
        names = [{other.name for other in pool.stats().replicas} for pool in on.pools]
        assert names == [
            {"replica-1", "replica-2"},
            {"replica-0", "replica-2"},
            {"replica-0", "replica-1"},
        ]
        on.views[2].die()
        await asyncio.sleep(LEASE_S + 2)
        assert [other.name for other in on.pools[0].stats().replicas] == ["replica-1"]


async def test_a_crash_of_an_actor_counts_with_crashes_of_processes() -> None:
    """An attempt is an attempt, whatever ended it."""
    agent = Crashing(1)
    async with cluster(agent, Talking()) as on:
        turn = await on.pools[0].ask("one", session="s1")
        assert (turn.output, turn.attempt) == ("run 2", 2)


async def test_observers_are_told_how_turns_move() -> None:
    """Given away, adopted, taken over, lost to another, handed back: each turn, by name."""
    seen: dict[str, list[str]] = {}

    class Told:
        def __init__(self, name: str) -> None:
            self._told = seen.setdefault(name, [])

        def notice(self, notice: Notice) -> None:
            if isinstance(notice, TurnMovedNotice):
                self._told.append(notice.how)

    store = MemoryStore(clock=wall, lease_ttl_s=LEASE_S)
    agent, other = Held(), Held()
    view = View(store)
    spec = AgentSpec(agent=agent, max=1)
    async with (
        pooled({"a": spec}, store=view, name="a", observers=[Told("a")], close_deadline_s=1) as a,
        pooled({"a": other}, store=View(store), name="b", observers=[Told("b")]) as b,
    ):
        await asyncio.sleep(2)
        await a.submit("one", session="s1")
        await agent.until_started(1)
        await b.submit("two", session="s1")
        await a.submit("three", session="s2")
        await asyncio.sleep(1)
        assert seen == {"a": ["adopted", "given_away"], "b": ["taken_over"]}
        view.hold()
        await asyncio.sleep(LEASE_S + 2)
        view.go_on()
        await asyncio.sleep(1)
        assert seen["a"][2:] == ["fenced", "fenced"]
        await other.let_all()
        await asyncio.sleep(1)
        await a.submit("four", session="s3")
        await a.drain(deadline_s=0.5)
        assert seen["a"][4:] == ["handed_back"]


async def test_an_approval_is_used_once_whatever_dies() -> None:
    """Once the gate has said yes it is used up: should the process end, a human is asked again."""
    allowed = asyncio.Event()

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        decision = await ctx.gate(ToolCall("c1", "pay", {"eur": 5}))
        if decision.action == "ask":
            return TurnEnd(status="paused", state=b"asked")
        allowed.set()
        await asyncio.Event().wait()
        return TurnEnd(output="paid")

    def gate(principal: Principal, call: ToolCall) -> Decision:
        return Decision("ask", risk="dangerous")

    def spec() -> AgentSpec:
        return AgentSpec(agent=lambda: Scripted(run, state_format="t/1"), gate=gate)

    async with cluster(spec(), spec()) as on:
        a, b = on.pools
        turn = await a.ask("pay", session="s1", on_disconnect="continue")
        await a.decide(turn.id, "c1", "approve")
        await allowed.wait()
        allowed.clear()
        on.views[0].die()
        again = await b.wait(turn.id, until_paused=True)
        assert (again.state, len(again.pending)) == ("waiting", 1)
        assert not allowed.is_set()
