"""The supervisor owns the actors of one agent: starts, restarts with backoff, retires, gives up
loudly.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from random import Random

import structlog

from pool.actor import Actor, Run, StopReason
from pool.agent import Agent
from pool.backoff import Backoff
from pool.config import PoolConfig
from pool.live import LiveTurn
from pool.observer import ActorStartedNotice, ActorStoppedNotice, AgentStateNotice, Observers
from pool.scaler import startable, surplus

_log = structlog.get_logger("pool.supervisor")


class Supervisor:
    """One for one: what happens to an actor is nobody else's business."""

    def __init__(
        self,
        agent: str,
        make: Callable[[], Agent],
        run: Run,
        *,
        config: PoolConfig,
        random: Random,
        observers: Observers,
        context: Context,
        ready: Callable[[], None],
        lost: Callable[[LiveTurn, str], None],
    ) -> None:
        self.agent = agent
        # most recently idle last; the coldest is first
        self.idle: dict[Actor, None] = {}
        self.busy: set[Actor] = set()
        self.starting: set[Actor] = set()
        # their agents would not stop; they no longer count
        self.abandoned: set[Actor] = set()
        # why the agent is degraded
        self.degraded: str | None = None
        # how many actors are gone, and why
        self.stops: Counter[StopReason] = Counter()
        self.mean_start_s = 0.0
        self._make = make
        self._run = run
        self._config = config
        self._observers = observers
        self._context = context
        # called when there may be room for a turn, and when a turn has lost its actor
        self._ready = ready
        self._lost = lost
        self._warm: dict[object, Actor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._closing = False
        self._retry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(
            first_s=config.backoff_first_s,
            max_s=config.backoff_max_s,
            quiet_s=config.quiet_s,
            tolerated=config.restarts_max,
            window_s=config.restarts_window_s,
            random=random,
        )

    def __repr__(self) -> str:
        return (
            f"<Supervisor {self.agent!r} [{len(self.idle)} idle, {len(self.busy)} busy, "
            f"{len(self.starting)} starting, {len(self.abandoned)} abandoned]>"
        )

    @property
    def live(self) -> int:
        """How many actors are open."""
        return len(self.idle) + len(self.busy)

    @property
    def size(self) -> int:
        """How many actors are open or starting."""
        return len(self.idle) + len(self.busy) + len(self.starting)

    def room(self, most: int) -> int:
        """How many actors could be started at once, towards `most`."""
        if self._retry is not None or self._closing:
            return 0
        return startable(
            live=self.live,
            starting=len(self.starting),
            want=most,
            start_limit=self._config.start_limit,
        )

    def scale(self, want: int, keep: int) -> None:
        """Start actors towards `want`; retire idle ones, the coldest first, down to `keep`."""
        for _ in range(self.room(want)):
            self._start()
        extra = surplus(live=self.live, idle=len(self.idle), starting=len(self.starting), keep=keep)
        for actor in list(self.idle)[:extra]:
            del self.idle[actor]
            self._cool(actor)
            actor.stop()

    def assign(self, turn: LiveTurn) -> Actor:
        """Take an idle actor for the turn: the one that served its session last, or the warmest."""
        key, idle = turn.session.key, self.idle
        actor = self._warm.get(key)
        if actor is not None and actor in idle:
            del idle[actor]
        else:
            actor = idle.popitem()[0]
            self._cool(actor)
            self._warm[key] = actor
        self.busy.add(actor)
        return actor

    def abandon(self, actor: Actor) -> None:
        """Leave behind an actor whose agent does not let itself be cancelled."""
        if actor not in self.busy:
            return
        self.busy.discard(actor)
        self._cool(actor)
        self.abandoned.add(actor)
        actor.state = "abandoned"
        actor.turn = None
        self._gone(actor, "abandoned", None)
        self._ready()

    async def close(self, grace_s: float) -> None:
        """End all actors: idle ones now, busy ones after their turn, and all by force after a
        grace.
        """
        self._closing = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for actor in (*self.idle, *self.busy):
            actor.stop()
        for actor in (*self.starting, *self.abandoned):
            actor.kill()
        for kill in (True, False):
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=grace_s)
            for task in self._tasks if kill else ():
                task.cancel()
        for actor in self.abandoned:
            _log.error(
                "agent does not end",
                agent=self.agent,
                actor=actor.name,
                remedy="it swallows cancellation: let CancelledError through in the agent's code",
            )

    # --- told by actors

    def opened(self, actor: Actor) -> None:
        """An actor is ready for turns."""
        start_s = self._loop.time() - actor.born_at
        self.mean_start_s += (start_s - self.mean_start_s) * (0.2 if self.mean_start_s else 1.0)
        self.starting.discard(actor)
        if self._observers:
            self._observers.notice(ActorStartedNotice(self.agent, actor.name, start_s))
        self._recovered()
        self.rested(actor)

    def rested(self, actor: Actor) -> None:
        """An actor is ready for a turn."""
        self.busy.discard(actor)
        actor.state = "idle"
        self.idle[actor] = None
        self._ready()

    def stopped(self, actor: Actor, reason: StopReason, error: BaseException | None) -> None:
        """An actor is gone."""
        turn, actor.turn = actor.turn, None
        self.idle.pop(actor, None)
        self.busy.discard(actor)
        self.starting.discard(actor)
        self._cool(actor)
        if actor in self.abandoned:
            self.abandoned.discard(actor)
            return
        if reason == "retired" or self._closing:
            self._gone(actor, "retired", None)
        else:
            self._gone(actor, reason, error)
            self._after_failure(reason, error)
        if turn is not None and turn.actor is actor:
            self._lost(turn, type(error).__name__)
        self._ready()

    def _start(self) -> None:
        self._count += 1
        actor = Actor(f"{self.agent}-{self._count}", self._run, self, now=self._loop.time())
        self.starting.add(actor)
        task = actor.start(
            self._make, open_timeout_s=self._config.open_timeout_s, context=self._context.copy()
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error(
                "agent failed to close",
                agent=self.agent,
                actor=task.get_name(),
                error=type(error).__name__,
                remedy="look at close() of the agent; the actor is gone all the same",
            )

    def _after_failure(self, reason: StopReason, error: BaseException | None) -> None:
        now = self._loop.time()
        wait_s = self._backoff.failed(now)
        if self._backoff.excessive(now) and self.degraded is None:
            what = "could not be opened" if reason == "failed" else "crashed"
            self.degraded = (
                f"its actors {what} more than {self._config.restarts_max} times within "
                f"{self._config.restarts_window_s:g} s (last: {type(error).__name__})"
            )
            self._tell_state("degraded", self.degraded)
        if self._retry is None:
            self._retry = self._loop.call_later(wait_s, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        if self.live:
            self._recovered()
        elif self.degraded is not None and not self.starting:
            self._start()
        self._ready()

    def _recovered(self) -> None:
        if self.degraded is not None:
            self.degraded = None
            self._tell_state("ready", "an actor is open again")

    def _cool(self, actor: Actor) -> None:
        if self._warm.get(actor.warm) is actor:
            del self._warm[actor.warm]

    def _gone(self, actor: Actor, reason: StopReason, error: BaseException | None) -> None:
        self.stops[reason] += 1
        if self._observers:
            name = type(error).__name__ if error is not None else None
            self._observers.notice(ActorStoppedNotice(self.agent, actor.name, reason, name))

    def _tell_state(self, state: str, detail: str) -> None:
        if self._observers:
            self._observers.notice(AgentStateNotice(self.agent, state, detail))
