"""What a pool must never do, checked while it runs and when it is quiet again.

A `Witness` takes down what agents, callers and readers saw, and looks at the pool at every chance it
gets. `audit` then compares all that with what the store has. The numbers are those of the design's
invariants. Nothing here raises on the spot: `Witness.wrongs` collects, so that an agent's own handling
of errors hides nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pool import AgentPool, Cursor, Event, Principal, TextDelta, Turn
from pool.events import START, TurnEnded, TurnQueued, TurnStarted
from pool.live import LiveTurn
from pool.reader import join_deltas
from pool.store.base import SessionKey, Store
from pool.turn import IfBusy

Fate = Literal["open", "accepted", "refused", "left"]

# Differences of times that mean nothing.
TINY_S: Final = 1e-6
# A deadline that no turn reaches by itself.
LONG_S: Final = 3_600.0


@dataclass
class Asked:
    """One request and what its caller knows of it. `number` stands first in the turn's input."""

    number: int
    key: SessionKey
    agent: str
    script: str
    deadline_s: float
    if_busy: IfBusy = "queue"
    nested: bool = False
    at: float | None = None
    fate: Fate = "open"
    # attempts (with one idempotency key) that are on their way
    trying: int = 0
    turn_id: str = ""
    # somebody asked for its end, or whoever waited for it left
    given_up: bool = False

    @property
    def input(self) -> str:
        """The text that the agent gets."""
        return f"{self.number} {self.script}"

    def may(self, *steps: str) -> bool:
        """Whether its script has one of these steps."""
        return any(word.partition("=")[0] in steps for word in self.script.split())


@dataclass(eq=False)
class Run:
    """One time that an agent ran a turn."""

    number: int
    turn_id: str
    key: SessionKey
    agent: str
    actor: object
    attempt: int
    at: float
    state: str | None
    how: Literal["", "done", "paused", "raised", "crashed", "cancelled", "deaf"] = ""


@dataclass
class Read:
    """What one live reader of a turn saw. `whole`: to its end."""

    turn_id: str
    key: SessionKey
    events: list[Event] = field(default_factory=list)
    whole: bool = False


class Witness:
    """Takes everything down. `store`: the innermost one, which answers at once and truthfully."""

    def __init__(self, pool: AgentPool, store: Store) -> None:
        self.pool = pool
        self.store = store
        self.wrongs: list[str] = []
        self.asked: dict[int, Asked] = {}
        self.runs: list[Run] = []
        self.running: dict[object, Run] = {}
        self.reads: list[Read] = []
        # tasks that agents left behind
        self.leaked: list[asyncio.Task[None]] = []
        self.drained_at: float | None = None
        self.closing = False
        # per limiter: permits held, and the limit, when it was looked at last
        self._permits: dict[str, tuple[int, int]] = {}
        # per agent: how many actors it had when its maximum was set, as far as they have not gone
        self._above: dict[str, int] = {}

    def wrong(self, invariant: int, what: str) -> None:
        """Something happened that must not."""
        self.wrongs.append(f"invariant {invariant}: {what}")

    @property
    def live(self) -> dict[str, LiveTurn]:
        """The pool's unfinished turns."""
        return self.pool._turns.live

    def asked_by(self, turn_id: str) -> Asked:
        """The request that became an unfinished turn."""
        return self.asked[_number(self.live[turn_id].record)]

    # --- told by agents

    def began(self, run: Run, deadline: float, now: float) -> None:
        """An agent starts on a turn."""
        self.runs.append(run)
        for other in self.running.values():
            if other.actor is run.actor:
                self.wrong(3, f"{run} begins on an actor that runs {other}")
            elif other.key == run.key and not self._left_behind(other):
                self.wrong(3, f"{run} begins in a session that runs {other}")
        if now > deadline + TINY_S:
            self.wrong(8, f"{run} begins {now - deadline:.3f} s after its deadline")
        live = self.live.get(run.turn_id)
        if live is None or live.stop is not None:
            self.wrong(8, f"{run} begins though it is to end, or has")
        if self.asked[run.number].fate == "refused":
            self.wrong(5, f"{run} was refused and begins")
        self.running[run.actor] = run
        self._check_permit(run)
        self.look()

    def ended(self, run: Run, how: Any) -> None:
        """An agent is through with a turn, for whatever reason."""
        run.how = how
        del self.running[run.actor]
        live = self.live.get(run.turn_id)
        if how == "cancelled" and live is not None and live.stop is None and not self.closing:
            self.wrong(14, f"{run} was cancelled, but its turn is not to end")

    def actor_closed(self, actor: object) -> None:
        """An actor's agent is closed."""
        if actor in self.running:
            self.wrong(14, f"the actor of {self.running[actor]} was closed")

    # --- told by readers

    async def saw(self, read: Read, event: Event) -> None:
        """A live reader got an event. A terminal one must be in the store by then."""
        read.events.append(event)
        if isinstance(event, TurnEnded):
            await self.told(read.key, event.turn)
            before = Cursor(event.epoch, event.seq - 1)
            stored = (await self.store.events(read.key, before, 1)).events
            if not stored or stored[0].id != event.id:
                self.wrong(11, f"a reader saw {event.type} {event.id} before the store had it")

    async def told(self, key: SessionKey, turn: Turn) -> None:
        """A caller was told how a turn ended: what it said must be committed by then."""
        if not turn.ended or not turn.spoken:
            return
        page = await self.store.messages(key, None, 1_000)
        if not any(message.turn_id == turn.id for message in page.items):
            self.wrong(11, f"turn {turn.input!r} was told as {turn.state} before it was committed")

    # --- looking at the pool

    def look(self, *, steady: bool = False) -> None:
        """Check what holds at every moment; `steady`: also what holds when nothing is on its way."""
        for name, dispatcher in self.pool._dispatchers.items():
            supervisor = dispatcher.supervisor
            actors = supervisor.live + len(supervisor.starting)
            self._check_actors(name, actors, steady=steady)
            again = [t for t in self.live.values() if t.phase == "queued" and t.record.attempt]
            config = self.pool.config
            if dispatcher.waiting > config.queue_max + len(again):
                self.wrong(
                    7, f"{name}: {dispatcher.waiting} turns in a queue of {config.queue_max}"
                )
            for tenant, placed in dispatcher._placed_by.items():
                if placed > config.tenant_queue_max + len(again):
                    self.wrong(7, f"{name}: {placed} turns of tenant {tenant}")
            limiter = dispatcher.limiter
            holders = [t for t in self.live.values() if t.has_permit and t.limiter is limiter]
            if limiter.held != len(holders):
                self.wrong(6, f"{limiter} but {len(holders)} turns have a permit")
            held, limit = self._permits.get(limiter.name, (0, limiter.limit))
            if limiter.held > max(held, limit, limiter.limit):
                self.wrong(7, f"{limiter} gave a permit beyond its limit")
            self._permits[limiter.name] = (limiter.held, limiter.limit)
            if steady:
                self._check_flow(name)

    def _check_actors(self, name: str, actors: int, *, steady: bool) -> None:
        dispatcher = self.pool._dispatchers[name]
        supervisor, most = dispatcher.supervisor, dispatcher.most
        if self.closing:
            return
        # after the maximum was lowered their number may only fall
        above = self._above.get(name, 0)
        if actors > max(most, above):
            self.wrong(14, f"{name}: {actors} actors, {most} allowed: {supervisor}")
        self._above[name] = min(above, actors)
        if steady and actors > most and supervisor.idle:
            self.wrong(14, f"{name}: {actors} actors, {most} allowed, and some idle: {supervisor}")
        held_back = supervisor._retry is not None or (
            len(supervisor.starting) >= self.pool.config.start_limit
        )
        if steady and actors < dispatcher.least and not held_back:
            self.wrong(14, f"{name}: {actors} actors, at least {dispatcher.least}: {supervisor}")

    def _check_flow(self, name: str) -> None:
        dispatcher = self.pool._dispatchers[name]
        if dispatcher.queue and dispatcher.supervisor.idle and dispatcher.limiter.free:
            self.wrong(15, f"{name}: {dispatcher} and {dispatcher.supervisor} stand still")
        queued = sum(
            turn.phase == "queued" and turn.stop is None and turn.record.agent == name
            for turn in self.live.values()
        )
        if dispatcher.waiting < queued:
            self.wrong(7, f"{name}: {queued} turns wait in {dispatcher.waiting} places")

    def _check_permit(self, run: Run) -> None:
        turn = self.live.get(run.turn_id)
        asking = turn
        while asking is not None and not (
            asking.has_permit and turn is not None and asking.limiter is turn.limiter
        ):
            asking = asking.parent
        if turn is not None and turn.stop is None and asking is None:
            self.wrong(6, f"{run} begins without a permit, its own or its asker's")

    def resized(self, name: str) -> None:
        """The bounds of an agent were changed just now; what is above them may go one by one."""
        supervisor = self.pool._dispatchers[name].supervisor
        self._above[name] = supervisor.live + len(supervisor.starting)

    def _left_behind(self, run: Run) -> bool:
        """Whether an agent goes on with a turn that has ended without it."""
        live = self.live.get(run.turn_id)
        return live is None or live.phase == "over"


async def audit(witness: Witness, tenants: Sequence[str], *, max_attempts: int) -> None:
    """Check everything once the pool is quiet. `AssertionError` with all that is wrong."""
    _quiet(witness)
    found: set[int] = set()
    for key in await _sessions(witness.store, tenants):
        turns = list((await witness.store.turns(key, None, 1_000)).items)
        events = list((await witness.store.events(key, START, 100_000)).events)
        found.update(_number(turn) for turn in turns)
        _log(witness, key, events)
        for turn in turns:
            _turn(witness, turn, [event for event in events if event.turn_id == turn.id])
            _fate(witness, turn, turns, max_attempts)
        _order(witness, key, turns)
        _states(witness, key, turns)
    for asked in witness.asked.values():
        if asked.fate == "refused" and asked.number in found:
            witness.wrong(5, f"{asked} was refused and is in the store")
        if asked.fate == "accepted" and asked.number not in found:
            witness.wrong(4, f"{asked} was accepted and is not in the store")
        if asked.fate == "open":
            witness.wrong(4, f"{asked} was never answered")
    report(witness)


def report(witness: Witness) -> None:
    """Raise `AssertionError` with all that is wrong so far, if anything is."""
    if witness.wrongs:
        raise AssertionError("\n".join(dict.fromkeys(witness.wrongs)))


# --- the pool


def _quiet(witness: Witness) -> None:
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
    if pool._turns._graces:
        witness.wrong(4, "a grace runs on for a turn that has ended")


async def _sessions(store: Store, tenants: Sequence[str]) -> list[SessionKey]:
    return [
        SessionKey(tenant, info.id)
        for tenant in tenants
        for info in (await store.sessions(tenant, None, 1_000)).items
    ]


# --- logs


def _log(witness: Witness, key: SessionKey, events: Sequence[Event]) -> None:
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
    if _said(events) != turn.output:
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
    same = [_essence(event) for event in seen] == [_essence(event) for event in stored]
    if (read.whole or seen) and not same:
        witness.wrong(11, f"turn {turn.input!r}: read {seen}, stored {stored}")
    if read.whole and not (seen and seen[-1].terminal):
        witness.wrong(11, f"turn {turn.input!r}: reading stopped before its end: {seen}")


def _essence(event: Event) -> tuple[str, str, str]:
    return (event.type, event.id, event.text if isinstance(event, TextDelta) else "")


def _said(events: Sequence[Event]) -> str:
    texts: list[str] = []
    for event in events:
        if isinstance(event, TurnStarted):
            texts.clear()
        elif isinstance(event, TextDelta):
            texts.append(event.text)
    return "".join(texts)


# --- why a turn ended as it did


def _fate(witness: Witness, turn: Turn, turns: Sequence[Turn], max_attempts: int) -> None:
    asked = witness.asked[_number(turn)]
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


def _states(witness: Witness, key: SessionKey, turns: Sequence[Turn]) -> None:
    """Each run found the state that the turns before it had left, no more and no less."""
    ends = {turn.id: turn for turn in turns}
    kept: dict[str, str] = defaultdict(str)
    for run in _of_session(witness.runs, key):
        turn = ends.get(run.turn_id)
        if turn is None:
            witness.wrong(5, f"{run} ran and is not in the store")
            continue
        if run.state is not None and run.state != kept[run.agent]:
            witness.wrong(9, f"{run} found {run.state!r}; left was {kept[run.agent]!r}")
        if turn.state == "completed" and run.how == "done":
            kept[run.agent] += f"{run.number},"


def _of_session(runs: Sequence[Run], key: SessionKey) -> Iterator[Run]:
    return (run for run in runs if run.key == key)


def _number(turn: Turn) -> int:
    return int(turn.input.partition(" ")[0])


def principal_of(tenant: str) -> Principal:
    """Somebody of the tenant."""
    return Principal(tenant, f"user-of-{tenant}")
