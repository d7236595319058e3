"""What only the memory store promises: it is bounded, never suspends and parts owners' objects."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pool.errors import ConfigError, NotFound, StoreUnavailable
from pool.events import START
from pool.store.base import SessionKey, StateChange
from pool.store.memory import MemoryStore
from pool.store.memory_limits import MemoryLimits
from pool.store.sharing import CancelTurn
from pool.turn import SessionInfo
from tests.contract.opened import Clock
from tests.contract.steps import (
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


def _store(**limits: Any) -> tuple[MemoryStore, Clock]:
    clock = Clock()
    return MemoryStore(clock=clock, limits=MemoryLimits(**limits), lease_ttl_s=30.0), clock


def _key(number: int) -> SessionKey:
    return SessionKey("acme", f"n{number}")


async def _ids(store: MemoryStore) -> list[str]:
    return [info.id for info in (await store.sessions("acme", None, 1_000)).items]


async def test_no_call_suspends() -> None:
    """Each call runs to its end at the first step, so that it cannot be cancelled halfway."""
    store, _ = _store()
    turn = make_turn()

    def at_once(call: Awaitable[Any]) -> Any:
        with pytest.raises(StopIteration) as caught:
            call.__await__().__next__()
        return caught.value.value

    at_once(store.open())
    at_once(store.ping())
    lease = at_once(store.accept(turn, owner="a", key="k")).lease
    at_once(store.append(lease, stamped(said("x"), turn, lease.epoch, 0), turn))
    at_once(store.load(lease, "helper", turn.id))
    at_once(store.commit(lease, finish(turn), []))
    at_once(store.create_session(S2, SessionInfo(id="s2")))
    at_once(store.fork_session(S1, _key(1), None))
    at_once(store.find_key(S1, "k"))
    at_once(store.turn(turn.id))
    at_once(store.turns(S1, None, 10))
    at_once(store.events(S1, START, 10))
    at_once(store.turn_start(turn.id))
    at_once(store.messages(S1, None, 10))
    at_once(store.session(S1))
    at_once(store.sessions("acme", None, 10))
    at_once(store.dead_letters(None, 10))
    _no_call_of_several_pools_suspends(store, at_once)
    at_once(store.delete_session(S1))
    at_once(store.close())
    assert not store.suspends
    assert not store.durable


def _no_call_of_several_pools_suspends(store: MemoryStore, at_once: Callable[..., Any]) -> None:
    turn = make_turn(key=S2)
    at_once(store.join("a", lambda _: None))
    at_once(store.replicas())
    at_once(store.accept(turn, owner=""))
    lease = at_once(store.claim(S2, "a")).lease
    at_once(store.signal(S2, CancelTurn(turn.id)))
    at_once(store.inbox(lease, ""))
    at_once(store.watch(S2, "a"))
    at_once(store.unwatch(S2, "a"))
    at_once(store.release(lease))
    at_once(store.orphans(10))
    at_once(store.take_deliveries(10, 1.0))
    at_once(store.put_off(turn.id, 1.0))
    at_once(store.settle(turn.id))
    at_once(store.all_sessions(None, 10))
    at_once(store.carry_in(at_once(store.carry_out(S2))))
    at_once(store.forget_dead_letter(turn.id))
    at_once(store.leave("a"))


async def test_an_owner_that_lost_the_session_changes_nothing_in_it() -> None:
    """After a take-over the new owner has objects of its own: the old one's are no longer read."""
    store, clock = _store()
    turn = make_turn()
    await accept(store, turn, "a")
    clock.now += 31
    await accept(store, make_turn(), "b")
    finish(turn, output="late")
    turn.usage.requests = 7
    kept = await store.turn(turn.id)
    assert kept is not None
    assert (kept.state, kept.output, kept.usage.requests) == ("queued", "", 0)


async def test_without_a_lease_ttl_a_lease_never_ends() -> None:
    """One pool that is alone with its store is never taken over, however long a turn takes."""
    clock = Clock()
    store = MemoryStore(clock=clock)
    await accept(store, make_turn(), "a")
    clock.now += 1e9
    assert (await store.accept(make_turn(), owner="b")).lease is None


async def test_the_last_owner_keeps_its_epoch() -> None:
    """Who claims again what nobody else held meanwhile goes on in the same epoch, under a lease
    that can be told from the one before."""
    store, clock = _store()
    turn = make_turn()
    _, first = await accept(store, turn)
    await commit(store, first, turn)
    clock.now += 60
    _, second = await accept(store, make_turn())
    assert second == first
    assert second is not first


async def test_an_epoch_is_at_least_one() -> None:
    """Also where the clock stands at zero."""
    _, lease = await accept(MemoryStore(clock=lambda: 0.0), make_turn())
    assert lease.epoch == 1


# --- bounds


async def test_the_session_idle_longest_makes_room() -> None:
    """Past `max_sessions` the one that was used least recently goes, with its turns."""
    store, clock = _store(max_sessions=3)
    turns = [await answer(store, key=_key(number)) for number in range(3)]
    clock.now += 10
    store.sweep(clock.now, 100)
    await answer(store, "again", key=_key(0))
    clock.now += 10
    store.sweep(clock.now, 100)
    await answer(store, key=_key(3))
    assert await _ids(store) == ["n0", "n2", "n3"]
    assert await store.turn(turns[1].id) is None


async def test_what_is_not_at_rest_yet_makes_room_too() -> None:
    """With nothing at rest the first idle session in use goes."""
    store, _ = _store(max_sessions=2)
    await accept(store, make_turn(key=_key(0)))
    await answer(store, key=_key(1))
    await answer(store, key=_key(2))
    assert await _ids(store) == ["n0", "n2"]


async def test_a_session_with_an_unfinished_turn_is_never_dropped() -> None:
    """If nothing is idle the store refuses, and says what to do; what is there can go on."""
    store, _ = _store(max_sessions=2)
    for number in range(2):
        await accept(store, make_turn(key=_key(number)))
    turn = make_turn(key=_key(2))
    for call in (
        store.accept(turn, owner="a", key="k"),
        store.create_session(_key(2), SessionInfo(id="n2")),
        store.fork_session(_key(0), _key(2), None),
    ):
        with pytest.raises(StoreUnavailable, match="max_sessions"):
            await call
    assert await store.turn(turn.id) is None
    assert await _ids(store) == ["n0", "n1"]
    assert (await store.accept(make_turn(key=_key(0)), owner="a")).new


async def test_a_fork_does_not_drop_what_it_copies() -> None:
    """Room for the fork is made among the others."""
    store, _ = _store(max_sessions=2)
    await answer(store, "source", key=_key(0))
    await answer(store, key=_key(1))
    await store.fork_session(_key(0), _key(2), None)
    assert await _ids(store) == ["n0", "n2"]


async def test_bytes_are_bounded() -> None:
    """Past `max_bytes` the oldest idle sessions go, those at rest and those in use."""
    store, clock = _store(max_bytes=200_000)
    for number in range(50):
        await answer(store, "x" * 5_000, key=_key(number), output="y" * 5_000)
        clock.now += 1
        store.sweep(clock.now, 100)
    ids = await _ids(store)
    assert 5 < len(ids) < 20
    assert ids == [f"n{number}" for number in range(50 - len(ids), 50)]


async def test_one_session_alone_cannot_pass_the_bytes() -> None:
    """When a single session has all there is, its next turn is refused."""
    store, _ = _store(max_bytes=100_000)
    await answer(store, "x" * 60_000, output="y" * 60_000)
    with pytest.raises(StoreUnavailable, match="max_bytes"):
        await store.accept(make_turn(), owner="a")


async def test_deleting_gives_the_bytes_back() -> None:
    """What is counted for a session is given back whole, in use, at rest, woken or trimmed."""
    store, clock = _store(max_turns_per_session=3, events_ttl_s=50.0)
    empty = repr(store)
    for key in (S1, S2, _key(1)):
        for number in range(6):
            await answer(store, str(number), key=key)
        clock.now += 60
        store.sweep(clock.now, 100)
    await store.turns(S1, None, 10)
    store.sweep(clock.now + 100, 100)
    for key in (S1, S2, _key(1)):
        assert await store.delete_session(key)
    assert repr(store) == empty


async def test_old_turns_are_dropped_and_their_words_stay() -> None:
    """Past `max_turns_per_session` records, events and keys of the oldest go."""
    store, _ = _store(max_turns_per_session=3)
    turns = []
    for number in range(5):
        turn = make_turn(str(number))
        accepted = await store.accept(turn, owner="a", key=f"k{number}")
        assert accepted.lease is not None
        if number < 3:
            await commit(store, accepted.lease, turn)
        else:
            end = accepted.end.seq
            events = stamped(said("x"), turn, accepted.lease.epoch, end)
            await store.commit(accepted.lease, finish(turn), events)
        turns.append(turn)
    assert [await store.turn(turn.id) for turn in turns[:2]] == [None, None]
    page = await store.turns(S1, None, 10)
    assert [turn.input for turn in page.items] == ["2", "3", "4"]
    info = await store.session(S1)
    assert info is not None
    assert info.turns == 5
    assert await store.find_key(S1, "k1") is None
    assert await store.find_key(S1, "k2") is not None
    assert [m.content for m in await transcript_of(store, S1)][::2] == ["0", "1", "2", "3", "4"]
    lost = (await store.events(S1, START, 100)).lost
    assert lost == (await store.turn_start(turns[2].id))
    assert lost is not None
    assert [event.seq for event in (await log_of(store, S1, lost))[0]] == list(range(9, 15))


async def test_a_page_of_turns_is_right_while_old_ones_are_dropped() -> None:
    """A cursor into what is gone leads to the oldest that is left."""
    store, _ = _store(max_turns_per_session=3)
    for number in range(3):
        await answer(store, str(number))
    page = await store.turns(S1, None, 2)
    await answer(store, "3")
    rest = await store.turns(S1, page.next, 10)
    assert [turn.input for turn in rest.items] == ["2", "3"]
    for number in range(4, 8):
        await answer(store, str(number))
    rest = await store.turns(S1, page.next, 10)
    assert [turn.input for turn in rest.items] == ["5", "6", "7"]


async def test_an_unfinished_turn_is_not_dropped_from_its_session() -> None:
    """A turn that still waits stays, with all that came after it."""
    store, _ = _store(max_turns_per_session=2)
    waiting = make_turn("waiting")
    _, lease = await accept(store, waiting)
    for number in range(4):
        turn = make_turn(str(number))
        await store.accept(turn, owner="a")
        await commit(store, lease, turn)
    assert await store.turn(waiting.id) is waiting
    await commit(store, lease, waiting)
    assert [turn.input for turn in (await store.turns(S1, None, 10)).items] == ["2", "3"]


async def test_the_transcript_is_bounded() -> None:
    """Past `max_messages_per_session` the oldest words go; cursors and unseen words stay right."""
    store, _ = _store(max_messages_per_session=6)
    for number in range(4):
        change = StateChange("f/1", b"x") if number == 2 else None
        await answer(store, str(number), agent=f"agent{number}", change=change)
    page = await store.messages(S1, None, 3)
    assert [message.content for message in page.items] == ["1", "hi", "2"]
    await answer(store, "4", agent="other")
    rest = await store.messages(S1, page.next, 10)
    assert [message.content for message in rest.items] == ["hi", "3", "hi", "4", "hi"]
    _, lease = await accept(store, make_turn())
    said_in_all = ["2", "hi", "3", "hi", "4", "hi"]
    for agent, texts in (("helper", said_in_all), ("agent2", said_in_all[2:])):
        unseen = (await store.load(lease, agent, "")).unseen
        assert [message.content for message in unseen] == texts


async def test_a_turn_whose_words_are_gone_is_no_place_to_fork_at() -> None:
    """Neither its record nor its words are there any more."""
    store, _ = _store(max_turns_per_session=1, max_messages_per_session=2)
    first = await answer(store, "first")
    await answer(store, "second")
    with pytest.raises(NotFound):
        await store.fork_session(S1, S2, first.id)


@pytest.mark.parametrize("name", MemoryLimits.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_limit_is_above_zero(name: str, value: float) -> None:
    """The error names the option, the value and what to write."""
    with pytest.raises(ConfigError, match=rf"memory\.{name} = .*above 0"):
        MemoryLimits(**{name: value})  # type: ignore[arg-type]
