"""Sessions carried from one store to another, and what else an operator does."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from pool.errors import DeadLetter
from pool.events import START, TurnFailed
from pool.store.base import SessionKey, StateChange, Store
from pool.store.memory import MemoryStore
from pool.store.sharing import CancelTurn, Nudge
from pool.store.transfer import CarriedSession
from pool.turn import SessionInfo, Turn, TurnError, Webhook
from tests.contract.nudges import joined
from tests.contract.steps import (
    OTHER,
    S1,
    S2,
    accept,
    answer,
    commit,
    finish,
    log_of,
    make_turn,
    said,
    stamped,
    transcript_of,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store


async def _another(store: Store) -> MemoryStore:
    """A store of another kind, at the same time of day."""
    made = await store.create_session(S1, SessionInfo(id="s1"))
    await store.delete_session(S1)
    return MemoryStore(clock=lambda: made.created_at)


async def _carried(store: Store, key: SessionKey = S1) -> CarriedSession:
    carried = await store.carry_out(key)
    assert carried is not None
    return carried


async def _fail(store: Store, key: SessionKey = S1) -> Turn:
    turn = make_turn("dead", key=key)
    accepted, lease = await accept(store, turn, "a")
    finish(turn, "failed")
    turn.error = TurnError(DeadLetter.code, "it crashed its actor too often")
    events = stamped([*said("so"), TurnFailed(turn=turn)], turn, lease.epoch, accepted.end.seq)
    await store.commit(lease, turn, events)
    return turn


async def _lived_in(store: Store) -> None:
    """A session with turns of two agents and two owners, states, a key, failures."""
    made = SessionInfo(id="s1", agent="helper", metadata={"a": [1, None]}, ttl_s=1e6)
    await store.create_session(S1, made)
    turn = make_turn("one", webhook=Webhook("https://example.org"))
    accepted = await store.accept(turn, owner="a", key="k")
    assert accepted.lease is not None
    await commit(store, accepted.lease, turn, change=StateChange("f/1", b"\x00one"))
    await answer(store, "two", agent="other", owner="b", change=StateChange("x/1", b"two"))
    await answer(store, "three", state="cancelled", output="", owner="b")
    await answer(store, "no", state="failed")
    await _fail(store)


async def _check_same(one: Store, two: Store) -> None:
    """Everything that the session was reads the same in both."""
    assert await two.session(S1) == await one.session(S1)
    turns = (await one.turns(S1, None, 100)).items
    assert list((await two.turns(S1, None, 100)).items) == list(turns)
    assert await transcript_of(two, S1) == await transcript_of(one, S1)
    log, _ = await log_of(one, S1)
    for after in (START, *(event.cursor for event in log)):
        assert await log_of(two, S1, after, limit=3) == await log_of(one, S1, after)
    for turn in turns:
        assert await two.turn(turn.id) == turn
        assert await two.turn_start(turn.id) == await one.turn_start(turn.id)
    assert await one.find_key(S1, "k") is not None
    assert await two.find_key(S1, "k") == await one.find_key(S1, "k")
    assert await two.dead_letters("acme", 10) == await one.dead_letters("acme", 10)


async def _check_goes_on(store: Store) -> None:
    """The next turn of a session that was carried follows what there was."""
    end = (await _carried(store)).end
    turn = make_turn("next")
    accepted, lease = await accept(store, turn, "b")
    assert accepted.end == end
    assert lease.epoch > end.epoch
    assert accepted.number == 6
    for agent, data, unseen in (
        ("helper", b"\x00one", ["two", "hi", "three"]),
        ("other", b"two", ["three"]),
        ("none", None, ["one", "hi", "two", "hi", "three"]),
    ):
        state = await store.load(lease, agent, turn.id)
        assert state.data == data
        assert [message.content for message in state.unseen] == unseen
    await commit(store, lease, turn)
    log, _ = await log_of(store, S1, end)
    assert [event.seq for event in log] == list(range(end.seq + 1, end.seq + 5))


async def test_a_session_is_the_same_in_another_store(opening: Opening) -> None:
    """Carried there, it reads as before, and its next turn goes on from it."""
    async with opening() as (store, _):
        other = await _another(store)
        await _lived_in(store)
        assert await other.carry_in(await _carried(store)) is True
        await _check_same(store, other)
        await _check_goes_on(other)


async def test_a_session_of_another_store_is_the_same_here(opening: Opening) -> None:
    """The other way round."""
    async with opening() as (store, _):
        other = await _another(store)
        await _lived_in(other)
        assert await store.carry_in(await _carried(other)) is True
        await _check_same(other, store)
        await _check_goes_on(store)


async def test_a_session_comes_back_as_it_went(opening: Opening) -> None:
    """Deleted meanwhile; carried out again it is what was carried in."""
    async with opening() as (store, _):
        await _lived_in(store)
        carried = await _carried(store)
        await store.delete_session(S1)
        assert await store.carry_in(carried) is True
        again = await _carried(store)
        assert again.info == carried.info
        assert list(again.turns) == list(carried.turns)
        assert list(again.starts) == list(carried.starts)
        assert sorted(again.keys, key=str) == sorted(carried.keys, key=str)
        assert [list(entry) for entry in again.said] == [list(entry) for entry in carried.said]
        assert sorted(again.states, key=str) == sorted(carried.states, key=str)
        assert (list(again.events), again.end) == (list(carried.events), carried.end)
        await _check_goes_on(store)


async def test_carrying_out_changes_nothing(opening: Opening) -> None:
    """Nor does carrying in what is there already: it can be repeated."""
    async with opening() as (store, _):
        await _lived_in(store)
        before = await _carried(store)
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        now = await _carried(store)
        assert [each.id for each in now.turns] == [each.id for each in before.turns] + [turn.id]
        assert await store.carry_in(before) is False
        assert await store.turn(turn.id) == turn
        assert await commit(store, lease, turn)


async def test_one_of_many_carried_in_at_once_is_kept(opening: Opening) -> None:
    """Whoever comes second is told that there is one."""
    async with opening() as (store, _):
        await _lived_in(store)
        carried = await _carried(store)
        await store.delete_session(S1)
        kept = await asyncio.gather(*(store.carry_in(carried) for _ in range(4)))
        assert sorted(kept) == [False, False, False, True]


async def test_what_does_not_exist_is_not_carried(opening: Opening) -> None:
    """None, and nothing is made."""
    async with opening() as (store, _):
        assert await store.carry_out(S1) is None
        assert await store.session(S1) is None


async def test_an_empty_session_is_carried(opening: Opening) -> None:
    """One that never had a turn, with what it was made with."""
    async with opening() as (store, _):
        made = await store.create_session(S1, SessionInfo(id="s1", agent="x", ttl_s=1e6))
        carried = await _carried(store)
        assert (list(carried.turns), list(carried.events), carried.end) == ([], [], START)
        await store.delete_session(S1)
        assert await store.carry_in(carried) is True
        assert await store.session(S1) == made
        await answer(store)


async def test_unfinished_turns_are_orphans_where_they_come(opening: Opening) -> None:
    """All are told; whoever claims them gets them in order, as they were, and ends them."""
    async with opening() as (store, _), joined(store, "b") as (b,):
        first, second = make_turn("first"), make_turn("second")
        _, lease = await accept(store, first, "a")
        await store.accept(second, owner="a")
        first.state, first.attempt = "running", 1
        events = stamped(said("so far"), first, lease.epoch, 0)
        await store.append(lease, events, first, StateChange("f/1", b"checkpoint"))
        await store.signal(S1, CancelTurn(first.id))
        carried = await _carried(store)
        moved = replace(carried, key=OTHER, turns=[_of_other(each) for each in carried.turns])
        assert await store.carry_in(moved) is True
        await b.hear(Nudge("work", OTHER))
        assert list(await store.orphans(10)) == [OTHER]
        claim = await store.claim(OTHER, "b")
        assert claim is not None
        assert [(number, turn.input, turn.state) for number, turn in claim.turns] == [
            (1, "first", "running"),
            (2, "second", "queued"),
        ]
        assert claim.end.seq == 1
        assert claim.lease.epoch > claim.end.epoch
        assert (await store.inbox(claim.lease, "")).letters == []
        assert (await store.load(claim.lease, "helper", claim.turns[0][1].id)).data is None
        released = [await commit(store, claim.lease, turn) for _, turn in claim.turns]
        assert released == [False, True]
        assert await store.claim(S1, "b") is None


def _of_other(turn: Turn) -> Turn:
    """The same turn of another session, under another id."""
    other = make_turn(key=OTHER)
    return replace(turn, id=other.id, tenant=OTHER.tenant, session_id=OTHER.id)


async def test_a_fork_is_carried_with_what_was_said_before_it(opening: Opening) -> None:
    """Words of turns that are another session's come with it, and are unseen as before."""
    async with opening() as (store, _):
        await answer(store, "one")
        await store.fork_session(S1, S2, None)
        await answer(store, "two", key=S2)
        messages = await transcript_of(store, S2)
        carried = await _carried(store, S2)
        await store.delete_session(S2)
        assert await store.carry_in(carried) is True
        assert await transcript_of(store, S2) == messages
        turn = make_turn(key=S2)
        _, lease = await accept(store, turn)
        assert (await store.load(lease, "helper", turn.id)).unseen == tuple(messages)


async def test_a_session_ends_when_it_would_have(opening: Opening) -> None:
    """Its time counts from its last turn, not from the day it was carried."""
    async with opening() as (store, pass_time):
        await store.create_session(S1, SessionInfo(id="s1", ttl_s=store.lease_s))
        await answer(store)
        carried = await _carried(store)
        await store.delete_session(S1)
        await pass_time(store.lease_s * 0.5)
        assert await store.carry_in(carried) is True
        assert await store.session(S1) == carried.info
        await pass_time(store.lease_s * 0.7)
        assert await store.session(S1) is None


async def test_a_trimmed_history_stays_so(opening: Opening) -> None:
    """Where events can no longer be replayed a reader is told the same in the other store."""
    async with opening() as (store, _):
        await _lived_in(store)
        carried = await _carried(store)
        await store.delete_session(S1)
        shorter = replace(carried, events=list(carried.events)[5:])
        assert await store.carry_in(shorter) is True
        page = await store.events(S1, START, 100)
        assert page.lost is not None
        assert page.lost.seq == 5
        assert (await log_of(store, S1, page.lost))[0] == list(shorter.events)
        await _check_goes_on(store)


async def test_a_history_without_events_keeps_its_end(opening: Opening) -> None:
    """With all its events gone the next ones follow the place where they ended."""
    async with opening() as (store, _):
        await _lived_in(store)
        carried = await _carried(store)
        await store.delete_session(S1)
        assert await store.carry_in(replace(carried, events=[])) is True
        assert await store.events(S1, carried.end, 10) == ([], None)
        assert (await store.events(S1, START, 10)).lost == carried.end
        accepted, _ = await accept(store, make_turn())
        assert accepted.end == carried.end
