"""What must be true of a store that several processes shared, and of what callers were told, once
all is quiet.

The numbers are those of the design's invariants. What a process that was killed, or cut off from
the store, had not stored did not happen: a turn that changed hands may have begun without a trace,
and what was said then is gone, if its readers were told so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from pool import Event, TextDelta, Turn
from pool.events import START, HistoryLost, TurnQueued, TurnStarted
from pool.reader import join_deltas
from pool.store.base import SessionKey
from tests.sim.clients import SessionRead
from tests.sim.replica import Book
from tests.support.audit import essence, log_is_dense, said
from tests.support.witness import LONG_S, TINY_S, Asked, Run, number_of

# How soon a turn ends whose end was asked for, while nothing is amiss.
HEARD_S = 1.0


async def audit_shared(
    book: Book,
    session_reads: Sequence[SessionRead],
    *,
    max_attempts: int,
    obeys_s: float,
) -> None:
    """Check everything; what is wrong is added to the book. `obeys_s`: see `_heard`."""
    found: set[int] = set()
    for key in sorted(book.ledger.keys()):
        turns = list((await book.ledger.turns(key, None, 1_000)).items)
        events = list((await book.ledger.events(key, START, 100_000)).events)
        found.update(number_of(turn) for turn in turns)
        log_is_dense(book, key, events)
        for turn in turns:
            mine = [event for event in events if event.turn_id == turn.id]
            _turn(book, turn, mine)
            _fate(book, turn, turns, max_attempts)
            _heard(book, turn, obeys_s)
            for read in book.reads:
                if read.turn_id == turn.id:
                    _read(book, f"turn {turn.input!r}", read.events, mine, 0, whole=read.whole)
        for watched in session_reads:
            if watched.key == key and watched.since is not None:
                _read(book, f"{key}", watched.events, events, watched.since.seq, whole=True)
        await _transcript(book, key, turns, events)
        _order(book, key, turns)
        _goes_next(book, key, turns, events)
        _states(book, key, turns, events)
        _approvals(book, turns)
    for asked in book.asked.values():
        if asked.fate == "refused" and asked.number in found:
            book.wrong(5, f"{asked} was refused and is in the store")
        if asked.fate == "accepted" and asked.number not in found:
            book.wrong(4, f"{asked} was accepted and is not in the store")
        if asked.fate == "open":
            book.wrong(4, f"{asked} was never answered")


# --- a turn


def _turn(book: Book, turn: Turn, events: Sequence[Event]) -> None:
    kinds = [event.type for event in events]
    commits = book.ledger.commits[turn.id]
    if not turn.ended or commits != 1:
        book.wrong(4, f"turn {turn.input!r} is {turn.state} after {commits} commits: {kinds}")
        return
    terminal = [event for event in events if event.terminal]
    if len(terminal) != 1 or events[-1] is not terminal[0]:
        book.wrong(4, f"turn {turn.input!r} has the events {kinds}")
        return
    if terminal[0].type != f"turn.{turn.state}":
        book.wrong(4, f"turn {turn.input!r} is {turn.state} and has the events {kinds}")
    moved = book.ledger.moves[turn.id] > 0
    if kinds[0] != TurnQueued.type and not moved:
        book.wrong(11, f"turn {turn.input!r} does not begin with turn.queued: {kinds}")
    if said(events) != turn.output and not (moved and not turn.output):
        book.wrong(11, f"turn {turn.input!r}: {turn.output!r} is not what was said: {events}")
    _attempts(book, turn, events, moved=moved)


def _attempts(book: Book, turn: Turn, events: Sequence[Event], *, moved: bool) -> None:
    """Each start is the next attempt; one that was not stored is missing in the log."""
    attempts = [event.attempt for event in events if isinstance(event, TurnStarted)]
    dense = attempts == list(range(1, turn.attempt + 1))
    # one that was told of, and not begun, is told of again
    rising = attempts == sorted(attempts) and all(1 <= n <= turn.attempt + 1 for n in attempts)
    if not (dense or (moved and rising)):
        book.wrong(11, f"turn {turn.input!r}: started as {attempts}, attempt {turn.attempt}")
    ran = [run for run in book.runs if run.turn_id == turn.id]
    for before, after in pairwise([run for run in ran if run.valid]):
        goes_on = before.how == "paused" and after.attempt == before.attempt
        if not (goes_on or after.attempt > before.attempt or _start_lost(before, after)):
            book.wrong(
                11, f"turn {turn.input!r} began twice as the same attempt: {before}, {after}"
            )
    begun = max((run.attempt for run in ran), default=0)
    if begun > max(turn.attempt, int(moved)):
        book.wrong(11, f"turn {turn.input!r} is at attempt {turn.attempt}; it ran as {ran}")
    crashes = sum(run.how == "crashed" for run in ran)
    if turn.attempt > 1 + crashes + book.ledger.moves[turn.id]:
        book.wrong(11, f"turn {turn.input!r} is at attempt {turn.attempt} and ran as {ran}")


def _start_lost(before: Run, after: Run) -> bool:
    """A turn's first start is stored with its first events: it may be lost with its process."""
    return before.epoch != after.epoch and before.attempt == after.attempt == 1


def _fate(book: Book, turn: Turn, turns: Sequence[Turn], max_attempts: int) -> None:
    """There is a reason why the turn ended as it did."""
    asked = book.asked_by(turn)
    runs = [run for run in book.runs if run.turn_id == turn.id]
    after = list(turns[turns.index(turn) + 1 :])
    # one whose acceptance got lost on its way back is found later, out of order
    lost = book.ledger.doubted
    after += [other for other in turns if other.id in lost or turn.id in lost]
    makes_way = {other.request.if_busy for other in after}
    lived_s = (turn.finished_at or 0.0) - turn.created_at
    why: object = None
    if turn.state == "completed":
        why = any(run.how == "done" and run.attempt == turn.attempt for run in runs)
    elif turn.state == "failed":
        why = _may_fail(book, asked, turn, runs, max_attempts)
    elif turn.state == "cancelled":
        why = "rollback" in makes_way if turn.forgotten else _may_be_cancelled(book, asked, turn)
    elif turn.state == "interrupted":
        why = "interrupt" in makes_way
    elif turn.state == "expired":
        why = asked.nested or (asked.deadline_s < LONG_S and lived_s > asked.deadline_s - TINY_S)
    if not why:
        book.wrong(13, f"nothing explains how {turn} ended; {asked}, {runs}")
    if turn.attempt > 1 and not asked.may("crash") and not book.ledger.moves[turn.id]:
        book.wrong(13, f"{turn} began again and did not crash its actor: {runs}")
    if lived_s > LONG_S / 2:
        book.wrong(15, f"{turn} was accepted and got stuck")


def _may_fail(book: Book, asked: Asked, turn: Turn, runs: Sequence[Run], max_attempts: int) -> bool:
    if turn.error is None:
        return False
    if turn.error.code == "dead_letter":
        broken = asked.may("crash") or book.violent
        return broken and turn.attempt >= max_attempts
    raised = any(run.how == "raised" and run.attempt == turn.attempt for run in runs)
    return raised and turn.error.code == "agent_failed"


def _may_be_cancelled(book: Book, asked: Asked, turn: Turn) -> bool:
    # who left while it was on its way to the store cannot have been told that it was accepted
    if asked.given_up or (asked.fate == "left" and book.cut_off):
        return True
    # whoever waited for it was connected to a process that is gone
    gone = {replica.name for replica in book.replicas if replica.shaken}
    return turn.request.on_disconnect == "cancel" and bool(gone & set(asked.pools))


def _heard(book: Book, turn: Turn, obeys_s: float) -> None:
    """Who asks for a turn's end is heard within a moment, while nothing is amiss."""
    asked_at = book.cancelled_at.get(turn.id)
    if asked_at is None or turn.finished_at is None:
        return
    took_s = turn.finished_at - book.epoch_s - asked_at
    if took_s > HEARD_S + obeys_s and book.calm(asked_at, asked_at + took_s):
        book.wrong(13, f"{turn} was cancelled at {asked_at} and ended {took_s:.2f} s later")


# --- readers


def _read(
    book: Book,
    what: str,
    events: Sequence[Event],
    stored: Sequence[Event],
    since: int,
    *,
    whole: bool,
) -> None:
    """A reader saw everything once, but for what it was told had not happened."""
    seen: list[Event] = []
    for event in events:
        if isinstance(event, HistoryLost):
            seen = _take_back(seen, stored, since, event)
            since = min(since, event.seq)
        else:
            seen.append(event)
    expected = [event for event in stored if event.seq > since]
    if not whole:
        # whoever left early was not told that what came last had not happened
        ids = {event.id for event in stored}
        while book.faults and seen and seen[-1].id not in ids:
            seen.pop()
        last = seen[-1].seq if seen else since
        expected = [event for event in expected if event.seq <= last]
    mine = [essence(event) for event in join_deltas(seen)]
    theirs = [essence(event) for event in join_deltas(expected)]
    if mine != theirs:
        told = [event.id for event in events if isinstance(event, HistoryLost)]
        book.wrong(11, f"{what}: told lost at {told}; read\n   {mine}, stored\n   {theirs}")


def _take_back(
    seen: Sequence[Event], stored: Sequence[Event], since: int, lost: HistoryLost
) -> list[Event]:
    """What was read and has happened, now that everything behind a place is said not to have."""
    kept = [event for event in seen if event.seq <= lost.seq]
    after = seen[len(kept) :]
    if after and isinstance(after[0], TextDelta):
        # some of the deltas that were joined in this one are still there
        begun = kept[-1].seq if kept else since
        turn_id = after[0].turn_id
        kept += [
            event for event in stored if begun < event.seq <= lost.seq and event.turn_id == turn_id
        ]
    return kept


# --- sessions


async def _transcript(
    book: Book, key: SessionKey, turns: Sequence[Turn], events: Sequence[Event]
) -> None:
    """Each turn that said something is in the transcript once, in the order in which they ended."""
    by_id = {turn.id: turn for turn in turns}
    ended = [by_id[event.turn_id] for event in events if event.terminal]
    expected = [turn.id for turn in ended if turn.spoken]
    page = await book.ledger.messages(key, None, 10_000)
    inputs = [message for message in page.items if message.role == "user"]
    if [message.turn_id for message in inputs] != expected:
        book.wrong(4, f"{key}: the transcript is {page.items}; ended have {ended}")


def _order(book: Book, key: SessionKey, turns: Sequence[Turn]) -> None:
    """Turns that wait for those before them begin in the order of acceptance, whoever holds the
    session; a run whose writes nobody took has not begun. A turn whose acceptance got lost on its
    way back is found later.
    """
    places = {turn.id: place for place, turn in enumerate(turns)}
    epochs: dict[str, int] = {}
    for run in book.runs:
        if run.key == key and run.valid:
            epochs.setdefault(run.turn_id, run.epoch)
    began = [
        places[turn_id]
        for turn_id in epochs
        if turns[places[turn_id]].request.if_busy in ("queue", "reject")
        and turn_id not in book.ledger.doubted
    ]
    if began != sorted(began):
        book.wrong(9, f"{key}: began in the order {began} of acceptance")


def _goes_next(book: Book, key: SessionKey, turns: Sequence[Turn], events: Sequence[Event]) -> None:
    """What makes the running turn give way starts before what waited when it got there."""
    queued: dict[str, int] = {}
    started: dict[str, int] = {}
    for event in events:
        if isinstance(event, TurnStarted):
            started.setdefault(event.turn_id, event.seq)
        elif isinstance(event, TurnQueued) and event.turn_id not in started:
            queued[event.turn_id] = event.seq
    ran = [turn for turn in turns if turn.id in started and turn.id in queued]
    patient = [turn for turn in ran if turn.request.if_busy in ("queue", "reject")]
    for turn in [turn for turn in ran if turn not in patient]:
        for other in patient:
            if queued[other.id] < queued[turn.id] < started[other.id] < started[turn.id]:
                book.wrong(9, f"{key}: {other.input!r} went before {turn.input!r}")


def _states(book: Book, key: SessionKey, turns: Sequence[Turn], events: Sequence[Event]) -> None:
    """Each run that was committed had found the state that the turns before it left."""
    by_id = {turn.id: turn for turn in turns}
    kept: dict[str, str] = defaultdict(str)
    for event in events:
        turn = by_id[event.turn_id]
        if not event.terminal or turn.state != "completed":
            continue
        done = [
            run
            for run in book.runs
            if run.turn_id == turn.id and run.how == "done" and run.epoch == event.epoch
        ]
        if len(done) != 1:
            book.wrong(3, f"{turn} was completed by {done}")
        elif done[0].state != kept[turn.agent]:
            book.wrong(9, f"{done[0]} found {done[0].state!r}; left was {kept[turn.agent]!r}")
        kept[turn.agent] += f"{number_of(turn)},"


def _approvals(book: Book, turns: Sequence[Turn]) -> None:
    """Humans' decisions count once, and agents do only what was decided, once."""
    ids = {turn.id for turn in turns}
    for (turn_id, call_id), times in book.decided.items():
        taken = sum(
            count
            for question, count in book.ledger.decided.items()
            if question[:2] == (turn_id, call_id)
        )
        if turn_id in ids and times > taken:
            book.wrong(20, f"call {call_id} of {turn_id}: {times} decisions count, {taken} taken")
    for (turn_id, call_id), times in Counter(used[:2] for used in book.used).items():
        taken = sum(
            count
            for question, count in book.ledger.decided.items()
            if question[:2] == (turn_id, call_id)
        )
        if turn_id in ids and times > taken:
            book.wrong(20, f"call {call_id} of {turn_id} was made {times} times, {taken} decided")
