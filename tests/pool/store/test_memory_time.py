"""What a memory store lets go of in time: sessions, events, and objects that have been idle."""

from __future__ import annotations

from typing import Any

import pytest

from pool.events import START, TurnFailed
from pool.store.base import SessionKey
from pool.store.memory import TICK_BUDGET, MemoryStore
from pool.store.memory_limits import MemoryLimits
from pool.store.memory_sweep import ROUND_S
from pool.turn import SessionInfo, TurnError
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


async def test_sessions_expire_without_a_ttl_of_their_own() -> None:
    """After `session_ttl_s` without a turn a session is gone, at rest or in use, swept or not."""
    store, clock = _store(session_ttl_s=100.0)
    await answer(store)
    await answer(store, key=S2)
    clock.now += 50
    store.sweep(clock.now, 10)
    await answer(store, key=S2)
    clock.now += 60
    assert await store.session(S1) is None
    assert await store.session(S2) is not None
    assert await store.turns(S1, None, 10) == ([], None)
    clock.now += 60
    store.sweep(clock.now, 10)
    assert "[0 in use, 0 at rest, 0 bytes]" in repr(store)


async def test_a_sweep_drops_what_has_expired_at_rest() -> None:
    """Nobody has to ask for it: the rounds find it."""
    store, clock = _store(session_ttl_s=100.0)
    for number in range(10):
        await answer(store, key=_key(number))
    clock.now += 10
    assert sum(store.sweep(clock.now, 4) for _ in range(3)) == 10
    clock.now += 100
    for _ in range(4):
        store.sweep(clock.now, 4)
    assert "[0 in use, 0 at rest, 0 bytes]" in repr(store)


@pytest.mark.parametrize("at_rest", [True, False])
async def test_old_events_can_no_longer_be_replayed(at_rest: bool) -> None:
    """After `events_ttl_s` a turn's events go; its record and its words stay."""
    store, clock = _store(events_ttl_s=100.0)
    turn = make_turn(at=clock.now)
    _, lease = await accept(store, turn)
    await commit(store, lease, turn)
    if not at_rest:
        waiting = make_turn("waiting", at=clock.now)
        _, lease = await accept(store, waiting)
    store.sweep(clock.now + 10, 10)
    clock.now += 102
    store.sweep(clock.now, 10)
    page = await store.events(S1, START, 10)
    assert (page.events, page.lost) == ([], page.lost)
    assert page.lost is not None
    assert page.lost.seq == 4
    assert await store.events(S1, page.lost, 10) == ([], None)
    assert await store.turn(turn.id) == turn
    assert len(await transcript_of(store, S1)) == 2
    if at_rest:
        _, lease = await accept(store, make_turn())
    await store.append(lease, stamped(said("x"), turn, lease.epoch, 4))


async def test_newer_events_stay_when_older_ones_go() -> None:
    """Only the events of turns that ended long ago go."""
    store, clock = _store(events_ttl_s=100.0)
    for _ in range(2):
        turn = make_turn(at=clock.now)
        _, lease = await accept(store, turn)
        end = (await log_of(store, S1))[1]
        events = stamped(said("x", "y"), turn, lease.epoch, end.seq)
        await store.commit(lease, finish(turn), events)
        clock.now += 60
    store.sweep(clock.now, 10)
    page = await store.events(S1, START, 10)
    assert page.lost is not None
    assert [event.seq for event in page.events] == [3, 4]


async def test_a_tick_looks_at_a_bounded_number_of_sessions() -> None:
    """However many there are, one tick brings at most `TICK_BUDGET` to rest."""
    store, clock = _store()
    for number in range(TICK_BUDGET + 10):
        await answer(store, key=_key(number))
    clock.now += 10
    store.tick()
    assert f"[10 in use, {TICK_BUDGET} at rest" in repr(store)
    store.tick()
    store.tick()
    assert f"[0 in use, {TICK_BUDGET + 10} at rest" in repr(store)


async def test_a_session_rests_when_it_has_been_idle_for_long_enough() -> None:
    """That is `rest_after_s` after its last turn; sweeps before that do not even look at it."""
    store, clock = _store(rest_after_s=10.0)
    for number in range(5):
        await answer(store, key=_key(number))
    clock.now += 6
    await answer(store, key=_key(0))
    assert store.sweep(clock.now + 3.9, 100) == 0
    assert store.sweep(clock.now + 4, 100) == 4
    assert store.sweep(clock.now + 9.9, 1) == 0
    assert store.sweep(clock.now + 10, 1) == 1


async def test_a_session_whose_turn_takes_long_rests_after_it() -> None:
    """While a turn is unfinished it stays, however often it is looked at."""
    store, clock = _store(rest_after_s=10.0)
    turn = make_turn()
    _, lease = await accept(store, turn)
    for _ in range(10):
        clock.now += 10
        assert store.sweep(clock.now, 100) == 0
    await commit(store, lease, turn)
    assert sum(store.sweep(clock.now + after_s, 100) for after_s in (9.9, 10, 20)) == 1


async def test_a_session_that_is_made_anew_rests_as_any_other() -> None:
    """What was deleted is not looked at in its place."""
    store, clock = _store(rest_after_s=10.0)
    for _ in range(3):
        await answer(store)
        assert await store.delete_session(S1)
    clock.now += 5
    await answer(store)
    assert store.sweep(clock.now + 9.9, 100) == 0
    assert store.sweep(clock.now + 10, 1) == 1


async def test_rounds_of_all_sessions_do_not_follow_each_other_at_once() -> None:
    """Between two of them nothing is looked at for its age; a clock put back does not stop them."""
    store, clock = _store(session_ttl_s=1_000.0)
    store.sweep(clock.now, 10)
    await store.create_session(S1, SessionInfo(id="s1", ttl_s=10.0))
    for after_s, kept in ((ROUND_S - 0.1, 1), (ROUND_S, 0)):
        store.sweep(clock.now + after_s, 10)
        assert f"{kept} at rest" in repr(store)
    await store.create_session(S2, SessionInfo(id="s2", ttl_s=10.0))
    store.sweep(clock.now + 30, 10)
    assert "[0 in use, 0 at rest" in repr(store)


async def test_a_dead_letter_goes_with_its_record() -> None:
    """A dead letter whose turn was dropped is no longer listed; one at rest is."""
    store, clock = _store(max_turns_per_session=2)
    for number in range(3):
        turn = make_turn(str(number))
        accepted, lease = await accept(store, turn)
        finish(turn, "failed")
        turn.error = TurnError("dead_letter", "no more")
        events = stamped([TurnFailed(turn=turn)], turn, lease.epoch, accepted.end.seq)
        await store.commit(lease, turn, events)
    clock.now += 10
    assert store.sweep(clock.now, 10) == 1
    assert [turn.input for turn in await store.dead_letters("acme", 10)] == ["2", "1"]
