"""Packing: what comes to rest wakes as it was."""

from __future__ import annotations

from typing import Any

import pytest

from pool.events import START, ReasoningDelta, TextDelta, ToolReturned, TurnQueued
from pool.store.base import StateChange
from pool.store.memory import MemoryStore
from pool.store.memory_limits import MemoryLimits
from pool.store.rest_words import WORDS_MAX, Words
from pool.turn import DecidedCall, PendingCall, TurnError, TurnRequest, Usage, Webhook
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


class Resting:
    """A store, and a way to bring all that is idle to rest."""

    def __init__(self, **limits: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock, limits=MemoryLimits(**limits))

    def rest(self) -> int:
        """Let the idle time pass; returns how many came to rest."""
        self.clock.now += self.store.limits.rest_after_s
        return self.store.sweep(self.clock.now, 1_000)


REQUESTS = [
    TurnRequest(input="x"),
    TurnRequest(input="x", agent="helper"),
    TurnRequest(input="ü👋\n\x00", agent="other", deadline_s=0.25, priority="batch"),
    TurnRequest(input="x", if_busy="rollback", on_disconnect="cancel"),
    TurnRequest(input="x", webhook=Webhook("https://example.org"), metadata={"a": [1, None]}),
]


@pytest.mark.parametrize("request_", REQUESTS)
async def test_a_request_wakes_as_it_was(request_: TurnRequest) -> None:
    """Every field of a request survives the rest."""
    resting = Resting()
    turn = make_turn()
    turn.request = request_
    _, lease = await accept(resting.store, turn)
    await commit(resting.store, lease, turn)
    assert resting.rest() == 1
    woken = await resting.store.turn(turn.id)
    assert woken is not turn
    assert woken == turn


CALL = PendingCall("c", "buy", {"n": 1}, "write", 9.5)

ENDS: list[dict[str, Any]] = [
    {"state": "completed", "stop_reason": "limit", "run_s": 1.25, "queued_s": 0.1, "attempt": 3},
    {"state": "failed", "error": TurnError("dead_letter", "no more", retryable=True)},
    {"state": "cancelled", "forgotten": True, "output": ""},
    {"state": "expired", "pending": (CALL,)},
    {"state": "interrupted", "usage": Usage(1, 2, 3, 4, 0.25, ("m", "n")), "user": "bob"},
    {"state": "completed", "finished_at": None},
    {"state": "completed", "roles": ("user", "admin")},
    {"state": "failed", "resumes": True},
    {"state": "cancelled", "decided": (DecidedCall(CALL, "deny", "eve", "too dear"),)},
]


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_wakes_as_it_was(end: dict[str, Any]) -> None:
    """Every field of an ended turn survives the rest, in its record and in its last event."""
    resting = Resting()
    turn = make_turn()
    _, lease = await accept(resting.store, turn)
    finish(turn)
    for name, value in end.items():
        setattr(turn, name, value)
    await resting.store.commit(lease, turn, stamped(said("a"), turn, lease.epoch, 0))
    log = await log_of(resting.store, S1)
    messages = await transcript_of(resting.store, S1)
    assert resting.rest() == 1
    assert await resting.store.turn(turn.id) == turn
    assert await log_of(resting.store, S1) == log
    assert await transcript_of(resting.store, S1) == messages


async def test_deltas_are_served_from_any_cursor_after_a_rest() -> None:
    """Texts that were joined come apart again, also where they are not the output."""
    resting = Resting()
    turn = make_turn()
    _, lease = await accept(resting.store, turn)
    timed = TextDelta(text="timed", at=3.5)
    events = [*said("first ", "", "try"), timed, *said("sec", "ond")]
    await resting.store.commit(
        lease, finish(turn, output="second"), stamped(events, turn, lease.epoch, 0)
    )
    assert resting.rest() == 1
    for number in range(len(events) + 1):
        cursor = events[number - 1].cursor if number else START
        assert (await log_of(resting.store, S1, cursor))[0] == events[number:]
        resting.rest()


async def test_states_and_keys_survive_many_rests() -> None:
    """What agents keep, and which keys were used, is there after each rest."""
    resting = Resting()
    for number in range(3):
        turn = make_turn(str(number), agent=f"agent{number}")
        accepted = await resting.store.accept(turn, owner="a", key=f"k{number}")
        assert accepted.lease is not None
        change = StateChange("f/1", str(number).encode())
        await commit(resting.store, accepted.lease, turn, change=change)
        assert resting.rest() == 1
    for number in range(3):
        again = make_turn(str(number), agent=f"agent{number}")
        assert not (await resting.store.accept(again, owner="a", key=f"k{number}")).new
        resting.rest()
    turn = make_turn()
    _, lease = await accept(resting.store, turn)
    for number in range(3):
        state = await resting.store.load(lease, f"agent{number}", turn.id)
        assert state.data == str(number).encode()
        assert len(state.unseen) == 2 * (2 - number)


async def test_what_cannot_be_packed_stays_in_use() -> None:
    """A tool's result that has no form in bytes keeps its session as it is; others come to rest."""
    resting = Resting()
    turn = make_turn()
    _, lease = await accept(resting.store, turn)
    event = ToolReturned(call_id="c", result=object())
    await resting.store.commit(lease, finish(turn), stamped([event], turn, lease.epoch, 0))
    await answer(resting.store, key=S2)
    assert resting.rest() == 1
    assert resting.rest() == 0
    assert (await log_of(resting.store, S1))[0] == [event]
    assert await resting.store.turn(turn.id) is turn


async def test_a_session_in_use_does_not_come_to_rest() -> None:
    """Neither one with an unfinished turn nor one that was used a moment ago."""
    resting = Resting()
    turn = make_turn()
    _, lease = await accept(resting.store, turn)
    assert resting.rest() == 0
    await commit(resting.store, lease, turn)
    assert resting.store.sweep(resting.clock.now + 1, 1_000) == 0
    assert resting.rest() == 1


async def test_a_forks_words_and_dropped_turns_words_survive() -> None:
    """What was said in turns whose records are elsewhere, or gone, is packed with the session."""
    resting = Resting(max_turns_per_session=2)
    for number in range(5):
        await answer(resting.store, str(number))
    await resting.store.fork_session(S1, S2, None)
    await answer(resting.store, "more", key=S2)
    before = [await transcript_of(resting.store, key) for key in (S1, S2)]
    assert [len(messages) for messages in before] == [10, 12]
    assert resting.rest() == 2
    assert [await transcript_of(resting.store, key) for key in (S1, S2)] == before


async def test_the_ends_epoch_survives_a_claim_that_wrote_nothing() -> None:
    """The cursor of the newest event stays what it was when a later owner wrote no event."""
    resting = Resting()
    await answer(resting.store, owner="a")
    turn = make_turn()
    _, lease = await accept(resting.store, turn, "b")
    await resting.store.commit(lease, finish(turn, "failed"), [])
    before = await resting.store.session(S1)
    assert resting.rest() == 1
    assert await resting.store.session(S1) == before
    await resting.store.turn(turn.id)
    assert await resting.store.session(S1) == before


async def test_an_event_of_a_turn_whose_record_is_gone_survives() -> None:
    """Events that lie between those of kept turns are packed with their turn's id."""
    resting = Resting(max_turns_per_session=1)
    first, second = make_turn("first"), make_turn("second")
    _, lease = await accept(resting.store, first)
    await resting.store.accept(second, owner="a")
    await resting.store.append(lease, stamped([TurnQueued(at=2.5)], second, lease.epoch, 0))
    await resting.store.append(lease, stamped(said("x", "y"), first, lease.epoch, 1))
    await commit(resting.store, lease, first)
    await commit(resting.store, lease, second)
    assert await resting.store.turn(first.id) is None
    log = await log_of(resting.store, S1)
    assert resting.rest() == 1
    assert await log_of(resting.store, S1) == log


async def test_deltas_of_two_turns_are_not_joined() -> None:
    """Deltas that follow each other but belong to different turns, or kinds, stay apart."""
    resting = Resting()
    first, second = make_turn("first"), make_turn("second")
    _, lease = await accept(resting.store, first)
    await resting.store.accept(second, owner="a")
    events = [
        *stamped(said("a", "b"), first, lease.epoch, 0),
        *stamped(said("c"), second, lease.epoch, 2),
        *stamped([ReasoningDelta(text="d")], second, lease.epoch, 3),
    ]
    await resting.store.append(lease, events)
    for turn in (first, second):
        await commit(resting.store, lease, turn, output="")
    log = await log_of(resting.store, S1)
    assert resting.rest() == 1
    assert await log_of(resting.store, S1) == log


def test_words_beyond_the_most_are_kept_as_they_are() -> None:
    """Only so many words get a number; every word is read back."""
    words = Words()
    for number in range(WORDS_MAX + 5):
        word = f"user{number}"
        for _ in range(2):
            packed = words.write(word)
            assert words.read(packed) == word
            assert isinstance(packed, str) == (number >= WORDS_MAX)
