"""What must be true of a pool once it is quiet: of itself, of its store, of what callers were told.

The numbers are those of the design's invariants.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from pool import Event, TextDelta, Turn
from pool.events import START, TurnQueued, TurnStarted
from pool.reader import join_deltas
from pool.store.base import SessionKey, Store
from tests.support.witness import LONG_S, TINY_S, Asked, Read, Run, Witness, number_of, report


async def audit(witness: Witness, tenants: Sequence[str], *, max_attempts: int) -> None:
    """Check everything once the pool is quiet. `AssertionError` with all that is wrong."""
    quiet(witness)
    found: set[int] = set()
    for key in await _sessions(witness.store, tenants):
        turns = list((await witness.store.turns(key, None, 1_000)).items)
        events = list((await witness.store.events(key, START, 100_000)).events)
        found.update(number_of(turn) for turn in turns)
        log_is_dense(witness, key, events)
        for turn in turns:
            _turn(witness, turn, [event for event in events if event.turn_id == turn.id])
            _fate(witness, turn, turns, max_attempts)
        _order(witness, key, turns)
        _goes_next(witness, key, turns, events)
        _states(witness, key, turns)
    for asked in witness.asked.values():
        if asked.fate == "refused" and asked.number in found:
            witness.wrong(5, f"{asked} was refused and is in the store")
        if asked.fate == "accepted" and asked.number not in found:
            witness.wrong(4, f"{asked} was accepted and is not in the store")
        if asked.fate == "open":
            witness.wrong(4, f"{asked} was never answered")
    report(witness)


# --- the pool


def quiet(witness: Witness) -> None:
    """Nothing is left of any turn: no permit, place, busy actor, session, task or grace."""
    pool = witness.pool
    stats = pool.stats()
    if stats.turns or stats.sessions:
        sessions = list(pool._sessions._sessions.values())
        witness.wrong(4, f"left: {list(witness.live.values())}, {sessions}")
    for agent in stats.agents:
        if agent.limit.held:
            witness.wrong(6, f"{agent.name}: permits held when nothing runs: {agent.limit}")
        if agent.queued or agent.waiting or pool._dispatchers[agent.name]._placed_by:
            witness.wrong(7, f"{agent.name}: {agent.waiting} places taken when nothing waits")
        if agent.actors.busy:
            witness.wrong(3, f"{agent.name}: busy when nothing runs: {agent.actors}")
    if not all(task.done() for task in witness.leaked):
        witness.wrong(13, "tasks that an agent left behind outlive its turn")
    if any(live.grace is not None for live in witness.live.values()):
        witness.wrong(4, "a grace runs on for a turn that has ended")


async def _sessions(store: Store, tenants: Sequence[str]) -> list[SessionKey]:
    return [
        SessionKey(tenant, info.id)
        for tenant in tenants
        for info in (await store.sessions(tenant, None, 1_000)).items
    ]


# --- logs


class Wrongs(Protocol):
    """Where to say what is wrong."""

    def wrong(self, invariant: int, what: str) -> None:
        """Something happened that must not."""


def log_is_dense(witness: Wrongs, key: SessionKey, events: Sequence[Event]) -> None:
    """Places follow each other without a gap, and epochs rise."""
    places = [event.seq for event in events]
    if places != list(range(1, len(events) + 1)):
        witness.wrong(11, f"{key}: the log is not dense: {places}")
    epochs = [event.epoch for event in events]
    if epochs != sorted(epochs):
        witness.wrong(2, f"{key}: epochs fall: {epochs}")


def _turn(witness: Witness, turn: Turn, events: Sequence[Event]) -> None:
    kinds = [event.type for event in events]
    if not turn.ended:
        witness.wrong(4, f"turn {turn.input!r} has not ended: {turn.state}, {kinds}")
        return
    terminal = [event for event in events if event.terminal]
    if len(terminal) != 1 or events[-1] is not terminal[0]:
        witness.wrong(4, f"turn {turn.input!r} has the events {kinds}")
    elif terminal[0].type != f"turn.{turn.state}":
        witness.wrong(4, f"turn {turn.input!r} is {turn.state} and has the events {kinds}")
    if not kinds or kinds[0] != TurnQueued.type:
        witness.wrong(11, f"turn {turn.input!r} does not begin with turn.queued: {kinds}")
    if said(events) != turn.output:
        witness.wrong(11, f"turn {turn.input!r}: {turn.output!r} is not what was said: {events}")
    attempts = [event.attempt for event in events if isinstance(event, TurnStarted)]
    if attempts != list(range(1, turn.attempt + 1)):
        witness.wrong(11, f"turn {turn.input!r}: started as {attempts}, attempt {turn.attempt}")
    for read in witness.reads:
        if read.turn_id == turn.id:
            _read(witness, turn, read, events)


def _read(witness: Witness, turn: Turn, read: Read, events: Sequence[Event]) -> None:
    seen, stored = join_deltas(read.events), join_deltas(events)
    if not read.whole and seen and stored:
        # it left in the middle, perhaps of a run of deltas
        last = seen[-1].seq
        stored = join_deltas([event for event in events if event.seq <= last])
    same = [essence(event) for event in seen] == [essence(event) for event in stored]
    if (read.whole or seen) and not same:
        witness.wrong(11, f"turn {turn.input!r}: read {seen}, stored {stored}")
    if read.whole and not (seen and seen[-1].terminal):
        witness.wrong(11, f"turn {turn.input!r}: reading stopped before its end: {seen}")


def essence(event: Event) -> tuple[str, str, str]:
    """What two copies of an event have in common."""
    return (event.type, event.id, event.text if isinstance(event, TextDelta) else "")


def said(events: Sequence[Event]) -> str:
    """The text since the last start."""
    texts: list[str] = []
    for event in events:
        if isinstance(event, TurnStarted):
            texts.clear()
        elif isinstance(event, TextDelta):
            texts.append(event.text)
    return "".join(texts)


# --- why a turn ended as it did


def _fate(witness: Witness, turn: Turn, turns: Sequence[Turn], max_attempts: int) -> None:
    asked = witness.asked[number_of(turn)]
    runs = [run for run in witness.runs if run.turn_id == turn.id]
    after = turns[turns.index(turn) + 1 :]
    lived_s = (turn.finished_at or 0.0) - turn.created_at
    makes_way = {other.request.if_busy for other in after}
    why = None
    if turn.state == "completed":
        why = runs and runs[-1].how == "done"
    elif turn.state == "failed":
        why = _may_fail(asked, turn, runs, max_attempts)
    elif turn.state == "cancelled":
        why = "rollback" in makes_way if turn.forgotten else asked.given_up
    elif turn.state == "interrupted":
        why = "interrupt" in makes_way or witness.drained_at is not None
    elif turn.state == "expired":
        why = asked.nested or (asked.deadline_s < LONG_S and lived_s > asked.deadline_s - TINY_S)
    if not why:
        witness.wrong(13, f"nothing explains how {turn} ended; {asked}, {runs}")
    if turn.attempt > 1 and not asked.may("crash"):
        witness.wrong(13, f"{turn} began again and did not crash its actor: {runs}")
    if sum(run.how == "done" for run in runs) > 1:
        witness.wrong(3, f"{turn} was answered twice: {runs}")
    if lived_s > LONG_S / 2:
        witness.wrong(15, f"{turn} was accepted and got stuck")


def _may_fail(asked: Asked, turn: Turn, runs: Sequence[Run], max_attempts: int) -> bool:
    if turn.error is None:
        return False
    if turn.error.code == "dead_letter":
        crashes = sum(run.how == "crashed" for run in runs)
        return asked.may("crash") and turn.attempt == crashes == max_attempts
    return bool(runs) and runs[-1].how == "raised" and turn.error.code == "agent_failed"


def _order(witness: Witness, key: SessionKey, turns: Sequence[Turn]) -> None:
    places = {turn.id: place for place, turn in enumerate(turns)}
    firsts = dict.fromkeys(run.turn_id for run in witness.runs if run.key == key)
    ran = [
        places[turn_id]
        for turn_id in firsts
        if turns[places[turn_id]].request.if_busy in ("queue", "reject")
    ]
    if ran != sorted(ran):
        witness.wrong(9, f"{key}: ran in the order {ran} of acceptance")


def _goes_next(
    witness: Witness, key: SessionKey, turns: Sequence[Turn], events: Sequence[Event]
) -> None:
    """What makes the running turn give way starts before what was waiting already."""
    queued = {event.turn_id: event.seq for event in events if isinstance(event, TurnQueued)}
    started = {
        event.turn_id: event.seq
        for event in events
        if isinstance(event, TurnStarted) and event.attempt == 1
    }
    ran = [turn for turn in turns if turn.id in started and turn.id in queued]
    patient = [turn for turn in ran if turn.request.if_busy in ("queue", "reject")]
    for turn in [turn for turn in ran if turn not in patient]:
        for other in patient:
            if queued[other.id] < queued[turn.id] < started[other.id] < started[turn.id]:
                witness.wrong(9, f"{key}: {other.input!r} went before {turn.input!r}")


def _states(witness: Witness, key: SessionKey, turns: Sequence[Turn]) -> None:
    """Each run found the state that the turns before it had left, no more and no less."""
    ends = {turn.id: turn for turn in turns}
    kept: dict[str, str] = defaultdict(str)
    for run in [run for run in witness.runs if run.key == key]:
        turn = ends.get(run.turn_id)
        if turn is None:
            witness.wrong(5, f"{run} ran and is not in the store")
            continue
        if run.state is not None and run.state != kept[run.agent]:
            witness.wrong(9, f"{run} found {run.state!r}; left was {kept[run.agent]!r}")
        if turn.state == "completed" and run.how == "done":
            kept[run.agent] += f"{run.number},"
