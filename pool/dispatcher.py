"""The dispatcher of one agent: owns the queue, decides admission, order and which actor runs what.

Nothing here awaits. A turn first gets a place (`admit`), then, when its session is free, is handed
to an actor or queued (`ready`); whenever an actor rests or a permit comes back, `pump` hands over
the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from pool.admission import Load, estimated_wait_s, refusal
from pool.agent import TurnEnd
from pool.config import AgentSpec, PoolConfig
from pool.errors import AgentDegraded, Overloaded, ProviderOverloaded
from pool.limiter import Limiter
from pool.live import LiveTurn
from pool.observer import LimitChangedNotice, Observers, ScaledNotice
from pool.overload import Overload
from pool.queue import FairQueue
from pool.rate import Rate
from pool.scaler import Hold, wanted
from pool.supervisor import Supervisor
from pool.turn import Priority

# Weight of the newest turn in the moving average of how long a turn holds its actor.
_NEWEST = 0.1


class Dispatcher:
    """Between the turns of an agent and its actors."""

    def __init__(
        self,
        name: str,
        spec: AgentSpec,
        *,
        config: PoolConfig,
        limiter: Limiter,
        observers: Observers,
        clock: Callable[[], float],
        started: Callable[[LiveTurn], None],
    ) -> None:
        self.name = name
        self.spec = spec
        self.least = spec.min
        self.most = spec.max
        self.limiter = limiter
        self.queue: FairQueue[LiveTurn] = FairQueue(config.tenant_weights)
        self.mean_hold_s: float | None = None
        # starts, and refusals by code, since the pool opened
        self.starts = 0
        self.refused: Counter[str] = Counter()
        self.start_rate = Rate()
        self.refusal_rate = Rate()
        # nothing is started any more
        self.closed = False
        self.supervisor: Supervisor
        self._config = config
        self._observers = observers
        self._clock = clock
        self._started = started
        # accepted or being accepted, and not started: in all, and by tenant
        self._placed = 0
        self._placed_by: dict[str, int] = {}
        self._overload = Overload(
            target_s=config.overload_wait_s, window_s=config.overload_window_s, now=clock()
        )
        self._hold = Hold(config.scale_down_hold_s)
        self._want = spec.min
        # the most actors that were busy together since the last tick
        self._peak = 0
        # there are more actors than there may be since the maximum was lowered
        self._shrinking = False

    def __repr__(self) -> str:
        return f"<Dispatcher {self.name!r} [{self._placed} waiting, limit {self.limiter.limit}]>"

    # --- what it knows

    @property
    def waiting(self) -> int:
        """Turns that were admitted and have not started."""
        return self._placed

    @property
    def capacity(self) -> int:
        """How many turns can run side by side when scaled up."""
        return max(1, min(self.most, self.limiter.limit))

    @property
    def shedding(self) -> tuple[Priority, ...]:
        """The priorities that are refused now."""
        return self._overload.shedding

    @property
    def ailment(self) -> str | None:
        """Why the agent is not ready for traffic, if it is not."""
        supervisor = self.supervisor
        if supervisor.degraded is not None:
            return supervisor.degraded
        if supervisor.live < min(1, self.least):
            return "no actor is open yet"
        return None

    @property
    def starts_now(self) -> bool:
        """Whether a turn that has a place will start at once, and all others that have one."""
        idle = min(len(self.supervisor.idle), self.limiter.free)
        return not self.queue.slots and idle >= self._placed

    def has_room(self, coming: int = 0) -> bool:
        """Whether one more turn would not have to wait, all that are on their way counted, and
        those that are `coming`.
        """
        return self._startable() > self._placed + coming

    def oldest_wait_s(self, now: float) -> float:
        """How long the turn that waits longest for an actor has waited."""
        return now - min((turn.accepted_at for turn in self.queue), default=now)

    def position(self, turn: LiveTurn) -> int:
        """How many turns go before this one, were it ready now."""
        if self.supervisor.idle and not self.queue.slots and self.limiter.held < self.limiter.limit:
            return 0
        return 0 if self._at_once() else self.queue.ahead(turn.tenant)

    # --- the way of a turn

    def admit(
        self,
        *,
        tenant: str,
        priority: Priority,
        deadline_s: float,
        ahead_in_session: int,
        now: float,
        asker: LiveTurn | None = None,
    ) -> None:
        """Give a new turn a place among those that wait, or raise why it is refused. `asker`: the
        turn that it is asked in.
        """
        supervisor = self.supervisor
        mine = self._placed_by.get(tenant, 0)
        if now >= self._overload.ends:
            self._overload.roll(now, self.oldest_wait_s(now))
        if supervisor.degraded is not None:
            raise AgentDegraded(
                f"agent {self.name!r} is degraded: {supervisor.degraded}; "
                "it is tried again at intervals",
                retry_after_s=self._config.backoff_max_s,
            )
        rides = (
            asker is not None
            and bool(supervisor.idle)
            and not ahead_in_session
            and self._lender(asker) is not None
        )
        if self._overload.sheds(priority) and not rides:
            raise Overloaded(
                f"agent {self.name!r} is overloaded and takes no turns of priority {priority!r}",
                retry_after_s=self._config.overload_window_s,
            )
        free = supervisor.idle and self.limiter.held < self.limiter.limit
        if self._placed or ahead_in_session or not free:
            load = self._load(tenant, mine, ahead_in_session, at_once=rides or self._at_once())
            refused = refusal(load, agent=self.name, deadline_s=deadline_s)
            if refused is not None:
                raise refused
        self._placed += 1
        self._placed_by[tenant] = mine + 1

    def place(self, tenant: str) -> None:
        """A place for a turn that was accepted already, however full it is."""
        self._placed += 1
        self._placed_by[tenant] = self._placed_by.get(tenant, 0) + 1

    def leave(self, tenant: str) -> None:
        """A turn gives its place back: it started, ended, or was not accepted after all."""
        self._placed -= 1
        left = self._placed_by[tenant] - 1
        if left:
            self._placed_by[tenant] = left
        else:
            del self._placed_by[tenant]

    def ready(self, turn: LiveTurn, *, again: bool = False) -> None:
        """The turn may run: hand it to an actor, or queue it."""
        if self.closed:
            return
        if (
            self.supervisor.idle
            and not self.queue.slots
            and turn.deadline > self._clock()
            and self._permit(turn)
        ):
            self._start(turn)
            return
        self.queue.push(turn, again=again)
        if turn.parent is not None:
            # it may need no permit, and so not have to wait for those who wait for one
            self.pump()
        self.scale()

    def back(self, turn: LiveTurn) -> None:
        """A turn that had started is to start again."""
        self.place(turn.tenant)
        self.ready(turn, again=True)

    def drop(self, turn: LiveTurn) -> None:
        """A turn that has a place will not start."""
        self.queue.remove(turn)
        self.leave(turn.tenant)

    def pump(self) -> None:
        """Hand over turns while there are actors and permits for them."""
        if self.closed:
            return
        supervisor = self.supervisor
        if self._shrinking:
            self._shrink()
        while self.queue.slots and supervisor.idle:
            turn = self.queue.pop()
            if turn.deadline <= self._clock():
                # the loop stood still past it: its timer is due, and ends it
                continue
            if not self._permit(turn):
                self.queue.push(turn, again=True)
                rider = self._rider()
                if rider is None:
                    break
                turn = rider
            self._start(turn)
        if self.queue.slots or supervisor.size < self.least:
            self.scale()

    def released(self, turn: LiveTurn, hold_s: float) -> None:
        """A turn no longer holds its actor."""
        mean_s = self.mean_hold_s
        self.mean_hold_s = hold_s if mean_s is None else mean_s + _NEWEST * (hold_s - mean_s)
        if turn.has_permit:
            turn.has_permit = False
            if turn.riders:
                self._part(turn)
            self.limiter.give()

    def _part(self, asker: LiveTurn) -> None:
        for rider in asker.riders:
            # one that runs on when its asker has ended needs a permit of its own, free or not
            if rider.phase == "running" and not rider.has_permit:
                rider.has_permit = True
                self.limiter.held += 1
        asker.riders = ()

    def learn(self, outcome: TurnEnd | Exception) -> None:
        """What the outcome of a turn says about the provider's limit."""
        before = self.limiter.limit
        if isinstance(outcome, Exception):
            overloaded = isinstance(outcome, ProviderOverloaded)
        else:
            overloaded = outcome.overloaded
        if overloaded:
            changed = self.limiter.overloaded(self._clock())
        elif isinstance(outcome, Exception) or outcome.marks:
            # neither an answer that was kept, nor the last resort, says anything of the provider
            return
        else:
            changed = self.limiter.succeeded()
        if changed and self._observers:
            self._observers.notice(
                LimitChangedNotice(self.name, self.limiter.name, before, self.limiter.limit)
            )

    # --- scaling

    def resize(self, least: int, most: int) -> None:
        """Set how many actors there may be."""
        self.limiter.resize(self.limiter.ceiling + most - self.most)
        self.least = least
        self.most = most
        if self._want > most:
            self._rescaled(most)
        self._shrink()

    def scale(self) -> None:
        """Start actors at once if they are wanted."""
        size = self.supervisor.size
        if self.least <= size <= self._want and size >= min(self.most, self.limiter.limit):
            # all there may be, and none too many: nothing is to be done, as often as it is asked
            return
        want = self._wanted()
        if want > self._want:
            self._rescaled(want)
        self.supervisor.scale(want, keep=max(want, self._want))

    def tick(self, now: float) -> None:
        """Once in a while: retire actors that were not wanted for long; sample the rates."""
        self.start_rate.sample(self.starts, now)
        self.refusal_rate.sample(self.refused.total(), now)
        if self._overload.shedding and now >= self._overload.ends:
            # it ends in time even if nobody asks any more
            self._overload.roll(now, self.oldest_wait_s(now))
        self._hold.note(self._wanted(busy=self._peak), now)
        self._peak = len(self.supervisor.busy)
        keep = max(self.least, min(self._hold.note(self._wanted(), now), self.most))
        if keep != self._want:
            self._rescaled(keep)
        self.supervisor.scale(self._wanted(), keep=keep)

    def _shrink(self) -> None:
        # Those that are busy go when they rest, before they get another turn.
        self.scale()
        self._shrinking = self.supervisor.size > self.most

    def _rescaled(self, want: int) -> None:
        before, self._want = self._want, want
        if self._observers:
            self._observers.notice(ScaledNotice(self.name, before, want))

    def _wanted(self, busy: int | None = None) -> int:
        return wanted(
            busy=len(self.supervisor.busy) if busy is None else busy,
            queued=len(self.queue),
            least=self.least,
            most=self.most,
            limit=self.limiter.limit,
        )

    # --- the parts of admission and assignment

    def _at_once(self) -> bool:
        return self._startable() > len(self.queue)

    def _startable(self) -> int:
        limiter, supervisor = self.limiter, self.supervisor
        if limiter.held >= limiter.limit:
            return 0
        actors = len(supervisor.idle) + len(supervisor.starting)
        if supervisor.size < self.most:
            actors += supervisor.room(self.capacity)
        return min(actors, limiter.limit - limiter.held)

    def _load(self, tenant: str, mine: int, ahead_in_session: int, *, at_once: bool) -> Load:
        must_start = not at_once and self.supervisor.live < self.capacity
        return Load(
            queued=self._placed,
            queue_max=self._config.queue_max,
            tenant_queued=mine,
            tenant_queue_max=self._config.tenant_queue_max,
            at_once=at_once,
            ahead=0 if at_once else self.queue.ahead(tenant),
            ahead_in_session=ahead_in_session,
            mean_hold_s=self.mean_hold_s,
            capacity=self.capacity,
            start_s=self.supervisor.mean_start_s if must_start else 0.0,
        )

    def estimate_s(self, tenant: str) -> float:
        """Seconds that a new turn of this tenant would wait."""
        mine = self._placed_by.get(tenant, 0)
        return estimated_wait_s(self._load(tenant, mine, 0, at_once=self._at_once()))

    def _permit(self, turn: LiveTurn) -> bool:
        turn.limiter = self.limiter
        lender = None if turn.parent is None else self._lender(turn.parent)
        if lender is not None:
            riding = [rider for rider in lender.riders if rider is not turn and not rider.over]
            lender.riders = (*riding, turn)
            return True
        turn.has_permit = self.limiter.take()
        return turn.has_permit

    def _lender(self, asker: LiveTurn | None) -> LiveTurn | None:
        # A turn asked from within another runs on that one's permit: it waits for us.
        while asker is not None and not (asker.has_permit and asker.limiter is self.limiter):
            asker = asker.parent
        return asker

    def _rider(self) -> LiveTurn | None:
        # Whoever runs on its asker's permit must not wait behind those who wait for that permit.
        for turn in self.queue:
            if turn.parent is None or turn.deadline <= self._clock():
                continue
            if self._permit(turn):
                self.queue.remove(turn)
                return turn
        return None

    def _start(self, turn: LiveTurn) -> None:
        self.leave(turn.tenant)
        self.starts += 1
        supervisor = self.supervisor
        turn.actor = actor = supervisor.assign(turn)
        if len(supervisor.busy) > self._peak:
            self._peak = len(supervisor.busy)
        self._started(turn)
        self._overload.waited(turn.started_at - turn.accepted_at)
        actor.give(turn)
