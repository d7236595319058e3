"""Readers of sessions that another process writes, on a store that fails: no gap, no end missed."""

from __future__ import annotations

import asyncio

import pytest

from pool.events import Event, HistoryLost, TurnStarted
from pool.store.base import SessionKey
from tests.support.agents import Held, Talking, said
from tests.support.cluster import LEASE_S, read_into
from tests.support.faulty import fail_over, faulty, watchers, wipe

S1 = SessionKey("default", "s1")


async def test_a_reader_goes_on_after_a_call_that_failed() -> None:
    """One `watch` and two `events` that fail are only a delay."""
    agent = Talking()
    async with faulty(agent, Talking()) as on:
        a, b = on.pools
        turn = await a.submit("one * two * three", session="s1")
        await asyncio.sleep(1)
        on.views[1].fail("watch", times=1)
        seen: list[Event] = []
        reading = asyncio.create_task(read_into(seen, b, turn.id))
        await asyncio.sleep(2)
        assert said(seen) == "one "
        on.views[1].fail("events", times=2)
        agent.go_on()
        await asyncio.sleep(4)
        assert said(seen) == "one two "
        agent.go_on()
        await asyncio.wait_for(reading, 2)
        assert said(seen) == "one two three "


async def test_a_reader_goes_on_after_a_pause_of_its_process() -> None:
    """Past its lease the store has forgotten that it watches: it watches anew."""
    agent = Talking()
    async with faulty(agent, Talking()) as on:
        a, b = on.pools
        turn = await a.submit("one * two * three", session="s1")
        await asyncio.sleep(1)
        seen: list[Event] = []
        reading = asyncio.create_task(read_into(seen, b, turn.id))
        await asyncio.sleep(1)
        on.views[1].hold()
        await asyncio.sleep(LEASE_S + 3)
        on.views[1].go_on()
        await asyncio.sleep(2)
        agent.go_on()
        agent.go_on()
        await asyncio.wait_for(reading, LEASE_S)
        assert said(seen) == "one two three "


async def test_readers_of_a_session_that_the_store_has_lost_come_to_an_end() -> None:
    """At its holder and elsewhere they are told that history was lost."""
    agent = Talking()
    async with faulty(agent, Talking()) as on:
        a, b = on.pools
        turn = await a.submit("one * two", session="s1")
        await asyncio.sleep(1)
        seen: list[Event] = []
        here: list[Event] = []
        reading = [
            asyncio.create_task(read_into(here, a, turn.id)),
            asyncio.create_task(read_into(seen, b, turn.id)),
        ]
        await asyncio.sleep(1)
        wipe(on.store, S1)
        agent.go_on()
        _, pending = await asyncio.wait(reading, timeout=LEASE_S * 3)
        assert not pending
        assert isinstance(seen[-1], HistoryLost)


@pytest.mark.parametrize("lost_events", [1, 2])
async def test_the_same_place_of_another_epoch_is_not_taken_for_the_same_event(
    lost_events: int,
) -> None:
    """The store lost the newest events and another holder took their places: readers are told."""
    agent, other = Talking(), Talking()
    async with faulty(agent, Talking(), other) as on:
        a, b, _ = on.pools
        on.views[1].fail("claim")
        turn = await a.submit("one * two", session="s1")
        await asyncio.sleep(1)
        seen: list[Event] = []
        reading = asyncio.create_task(read_into(seen, b, turn.id))
        await asyncio.sleep(1)
        assert said(seen) == "one "
        on.views[0].die()
        fail_over(on.store, S1, lost=lost_events)
        await asyncio.sleep(LEASE_S + 5)
        other.go_on()
        await asyncio.wait_for(reading, LEASE_S)
        lost = next(n for n, event in enumerate(seen) if isinstance(event, HistoryLost))
        again = seen[lost + 1 :]
        assert [event.attempt for event in again if isinstance(event, TurnStarted)] == [2]
        assert said(again) == "one two "
        assert [e.seq for e in again] == list(range(seen[lost].seq + 1, again[-1].seq + 1))


async def test_a_late_answer_about_a_session_that_was_held_meanwhile_changes_nothing() -> None:
    """A turn ran here before `watch` was answered: its reader sees no loss, and nothing twice."""
    async with faulty(Talking(), Talking()) as on:
        a, b = on.pools
        await b.ask("zero", session="s1")
        on.views[0].delay("watch", by_s=0.5)
        reader = await a.watch_session("s1")
        await a.ask("one", session="s1")
        events = list(await reader.take())
        await asyncio.sleep(2)
        events += await reader.take()
        reader.close()
        types = [event.type for event in events]
        assert "history.lost" not in types
        assert types.count("turn.completed") == 1
        assert said(events) == "one "


async def test_a_reader_that_leaves_while_it_is_fetched_for_leaves_no_watcher_behind() -> None:
    """The last word to the store is that nobody watches: the holder writes as seldom as before."""
    agent = Talking()
    async with faulty(agent, Talking()) as on:
        a, b = on.pools
        await a.submit("one " + "* w " * 40 + "*", session="s1")
        await asyncio.sleep(1)
        reader = await b.watch_session("s1")
        await asyncio.sleep(0.3)
        assert watchers(on.store, S1) == {"replica-1"}
        on.views[1].delay("watch", "events", "unwatch", by_s=0.06)
        for _ in range(8):
            agent.go_on()
            await asyncio.sleep(0.03)
        reader.close()
        await asyncio.sleep(5)
        assert watchers(on.store, S1) == set()


async def test_a_reader_that_comes_as_another_leaves_is_told_of_what_comes() -> None:
    """Its `watch` does not get lost in the `unwatch` that is on its way."""
    agent = Talking()
    async with faulty(agent, Talking()) as on:
        a, b = on.pools
        turn = await a.submit("one * two", session="s1")
        await asyncio.sleep(1)
        first = await b.watch_session("s1")
        await asyncio.sleep(1)
        on.views[1].delay("unwatch", by_s=0.5)
        first.close()
        await asyncio.sleep(0.1)
        seen: list[Event] = []
        reading = asyncio.create_task(read_into(seen, b, turn.id))
        await asyncio.sleep(2)
        assert watchers(on.store, S1) == {"replica-1"}
        agent.go_on()
        await asyncio.wait_for(reading, 0.5)
        assert said(seen) == "one two "


async def test_who_waits_behind_other_turns_does_not_ask_for_each_of_their_words() -> None:
    """A caller elsewhere looks at the turn in the store about once a second, not at each flush."""
    agent = Talking()
    async with faulty(agent, Held()) as on:
        a, b = on.pools
        await a.submit("* w " * 200, session="s1")
        await asyncio.sleep(1)
        asking = asyncio.create_task(b.ask("two", session="s1"))
        await asyncio.sleep(1)
        on.views[1].calls.clear()
        for _ in range(200):
            agent.go_on()
            await asyncio.sleep(0.05)
        assert on.views[1].calls.count("turn") <= 15
        assert (await asking).output == "two "
