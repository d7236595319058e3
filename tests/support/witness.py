"""Takes down what happens in a pool, and looks at it at every chance it gets.

The numbers are those of the design's invariants. Nothing raises on the spot: `Witness.wrongs`
collects, so that no agent's own handling of errors hides anything.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pool import AgentPool, Cursor, Event, Principal, Turn
from pool.events import TurnEnded
from pool.live import LiveTurn
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
    # the names of the pools that were asked
    pools: list[str] = field(default_factory=list)

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
    # of the lease under which it ran, and whether the store would have taken its writes
    epoch: int = 0
    valid: bool = True


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
        # what agents did upon a human's decision: turn, call and what the gate said
        self.used: list[tuple[str, str, str]] = []
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
        return self.asked[number_of(self.live[turn_id].record)]

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
        """Check what holds at every moment; `steady`: and what holds when nothing is on its way."""
        for name, dispatcher in self.pool._dispatchers.items():
            supervisor = dispatcher.supervisor
            actors = supervisor.live + len(supervisor.starting)
            self._check_actors(name, actors, steady=steady)
            again = [t for t in self.live.values() if t.phase == "queued" and self.is_let_in(t)]
            config = self.pool.config
            if dispatcher.waiting > config.queue_max + len(again):
                self.wrong(
                    7, f"{name}: {dispatcher.waiting} turns in a queue of {config.queue_max}"
                )
            for tenant, placed in dispatcher._placed_by.items():
                if placed > config.tenant_queue_max + len(again):
                    self.wrong(7, f"{name}: {placed} turns of tenant {tenant}")
            limiter = dispatcher.limiter
            holders = {t.id for t in self.started() if t.has_permit and t.limiter is limiter}
            if limiter.held != len(holders):
                self.wrong(6, f"{limiter} but {len(holders)} turns have a permit")
            held, limit = self._permits.get(limiter.name, (0, limiter.limit))
            if limiter.held > max(held, limit, limiter.limit):
                self.wrong(7, f"{limiter} gave a permit beyond its limit")
            self._permits[limiter.name] = (limiter.held, limiter.limit)
            if steady:
                self._check_flow(name)

    def started(self) -> list[LiveTurn]:
        """The pool's turns, and those that its actors still run though they are others' now."""
        dispatchers = self.pool._dispatchers.values()
        actors = (actor for dispatcher in dispatchers for actor in dispatcher.supervisor.busy)
        return [*self.live.values(), *(actor.turn for actor in actors if actor.turn is not None)]

    def is_let_in(self, turn: LiveTurn) -> bool:
        """Whether the turn has its place in the queue however full that is."""
        return turn.record.attempt > 0

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


def report(witness: Witness) -> None:
    """Raise `AssertionError` with all that is wrong so far, if anything is."""
    if witness.wrongs:
        raise AssertionError("\n".join(dict.fromkeys(witness.wrongs)))


def number_of(turn: Turn) -> int:
    """The number of the request that a turn came from."""
    return int(turn.input.partition(" ")[0])


def principal_of(tenant: str) -> Principal:
    """Somebody of the tenant."""
    return Principal(tenant, f"user-of-{tenant}")
