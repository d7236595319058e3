"""The pool: agents, their actors and queues, sessions and a store, tied together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import structlog

from pool import scope
from pool.asking import Asking
from pool.blame import Blame
from pool.config import PoolConfig
from pool.dispatcher import Dispatcher
from pool.drain import drain, give_up, hand_over
from pool.errors import Conflict, InvalidRequest, StoreUnavailable
from pool.guard.answers_stores import AnswerStore
from pool.guard.audit import Audit
from pool.guard.ledger import CostConfig, Ledger
from pool.guard.prices import PriceTable
from pool.guard.rates import Windows
from pool.guard.screen import Screen
from pool.guard.switches import Switches
from pool.guard.tool_rules import ToolRules
from pool.ids import Ids
from pool.live import Stop
from pool.observer import Observer, Observers
from pool.specs import specs_of
from pool.stats import PoolStats, agent_stats
from pool.store.base import Store
from pool.store.memory import MemoryStore
from pool.telemetry.watchdog import Watchdog
from pool.webhooks import Webhooks
from pool.wiring import Parts, wire

if TYPE_CHECKING:
    from pool.guard.privacy import Privacy

_log = structlog.get_logger("pool.pool")


class _NotOpen:
    """Stands for every part of a pool that has not been opened."""

    def __getattr__(self, name: str) -> Any:
        raise Conflict("this pool is not open; use it within `async with`, or await open() first")


# The store keeps house in small steps: so many for each tick of the pool.
_STORE_TICKS = 10


class AgentPool(Asking):
    """A supervised pool of agent actors.

        async with AgentPool(agent) as pool:
            turn = await pool.ask("hi", session="s1")

    `agents`: one agent or `AgentSpec`, or a mapping of names to them; the first is the default.
    `store`: where sessions live (default: in memory; one that is given is not closed with the
    pool). `name`: the pool's name as the owner of leases. `seed`: for the random numbers of backoff
    and jitter. `webhooks`: who posts ended turns (default: nobody; they are refused). `audit`:
    notes what the pool does, as an observer, and says whether turns may be taken; it is the
    caller's, opened before the pool and closed after it. `cost`: limits and budgets; `windows`:
    where rates are counted (default: in the store); `prices`: of models, besides those in `cost`.
    `answers`: where those are kept of agents that want it (default: in this process's memory); it
    is closed by whoever gave it. `screen`: looks at every input. `privacy`: what models and logs
    are not to see. `tools`: what agents may call, and for whom. `wall`: the time of day, in seconds
    since the epoch; everything else goes by the loop's clock.
    """

    def __init__(
        self,
        agents: Any,
        *,
        config: PoolConfig | None = None,
        store: Store | None = None,
        observers: Iterable[Observer] = (),
        name: str | None = None,
        seed: int | None = None,
        webhooks: Webhooks | None = None,
        audit: Audit | None = None,
        cost: CostConfig | None = None,
        windows: Windows | None = None,
        prices: PriceTable | None = None,
        answers: AnswerStore | None = None,
        screen: Screen | None = None,
        privacy: Privacy | None = None,
        tools: ToolRules | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config or PoolConfig()
        self.specs = specs_of(agents)
        self.default_agent = next(iter(self.specs))
        self.name = name or f"pool-{uuid4().hex[:12]}"
        self.store: Store = store if store is not None else MemoryStore()
        # which agents an operator has disabled
        self.switches = Switches(self.store, cancel=self._cancel_all, wall=wall)
        self._owns_store = store is None
        self._webhooks = webhooks
        self.audit = audit
        self._observers = Observers(observers if audit is None else (*observers, audit))
        # what turns cost, and whether there is enough
        self.ledger = Ledger(
            cost or CostConfig(),
            store=self.store,
            wall=wall,
            listener=self._observers.notice,
            windows=windows,
            table=prices,
        )
        self._answers = answers
        self._screen = screen
        self._privacy = privacy
        self._tools = tools
        self._random = Random(seed)
        self._wall = wall
        self._ids = Ids()
        self._dispatchers: dict[str, Dispatcher] = {}
        self._opened = self._drained = False
        self._ticks = 0
        self._tick_timer: asyncio.TimerHandle | None = None
        self._watchdog: Watchdog | None = None
        self._ending: asyncio.Task[None] | None = None
        not_open: Any = _NotOpen()
        self._loop = self._sessions = self._turns = not_open
        self._intake = self._decisions = self._followers = not_open
        self._parts: Parts = not_open
        self._tracking: scope.Tracking

    def __repr__(self) -> str:
        agents = ", ".join(repr(dispatcher) for dispatcher in self._dispatchers.values())
        return f"<AgentPool {self.name} [{agents or 'closed'}]>"

    # --- life

    async def open(self) -> None:
        """Open the store and start the actors. A pool is opened once."""
        if self._opened:
            raise Conflict("this pool has been opened before; make a new one")
        self._opened = True
        self._loop = loop = asyncio.get_running_loop()
        await self.store.open()
        parts = self._parts = wire(
            name=self.name,
            config=self.config,
            store=self.store,
            specs=self.specs,
            dispatchers=self._dispatchers,
            default_agent=self.default_agent,
            ids=self._ids,
            observers=self._observers,
            webhooks=self._webhooks,
            random=self._random,
            wall=self._wall,
            stats=self.stats,
            switches=self.switches,
            audit=self.audit,
            ledger=self.ledger,
            answers=self._answers,
            screen=self._screen,
            privacy=self._privacy,
            tools=self._tools,
        )
        self._sessions = parts.sessions
        self._turns = parts.turns
        self._decisions = parts.decisions
        self._followers = parts.followers
        self._intake = parts.intake
        await self.store.join(self.name, self._parts.upkeep.nudged)
        await self.switches.start()
        await self.ledger.start()
        self._tracking = scope.track(loop)
        if self.config.watchdog_s:
            blame = Blame(self._turns.live, self._observers, loop)
            self._watchdog = Watchdog(self.config.watchdog_s, blame)
            self._watchdog.start(loop)
        self._tick()
        self._parts.upkeep.start()
        if parts.deliveries is not None:
            parts.deliveries.start()

    async def close(self, *, deadline_s: float | None = None) -> None:
        """Drain (by default for `close_deadline_s`), end the actors, let go of everything."""
        if self._tick_timer is None:
            return
        if self._ending is None:
            await self.drain(
                deadline_s=self.config.close_deadline_s if deadline_s is None else deadline_s
            )
        if self._ending is None:
            self._ending = self._loop.create_task(self._end(), name=f"end of {self.name}")
        # Once begun it goes on to its end, whoever closes the pool leaves or closes it as well.
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        await self.switches.stop()
        await self.ledger.stop()
        await self._parts.upkeep.stop()
        self._turns.close()
        grace_s = self.config.cancel_grace_s
        await asyncio.gather(*(d.supervisor.close(grace_s) for d in self._dispatchers.values()))
        await self._turns.billing.close()
        await give_up(self._turns)
        if self._parts.deliveries is not None:
            await self._parts.deliveries.close(grace_s=grace_s)
        if self._watchdog is not None:
            self._watchdog.stop()
        await self._leave_store()
        scope.untrack(self._loop, self._tracking)
        if self._owns_store:
            await self.store.close()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None

    async def _leave_store(self) -> None:
        try:
            await self.store.leave(self.name)
        except StoreUnavailable as error:
            # what is left is found by others when the leases have run out
            _log.warning("store does not know that this process ends", error=error.code)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # whoever leaves with an error does not want to wait for turns
        await self.close(deadline_s=None if error is None else 0.0)

    @property
    def draining(self) -> bool:
        """Whether the pool takes no more turns."""
        return self._intake.closed

    @property
    def drained(self) -> bool:
        """Whether the pool takes no more turns, and has given its turns the time they had."""
        return self._drained

    async def drain(self, *, deadline_s: float) -> None:
        """Take no more turns and wait for those that run, at most so long; then interrupt them, or
        give them back to a store that outlives the process.

        Returns within `deadline_s` plus `cancel_grace_s`. May be called again, with less time.
        """
        self._intake.closed = self._parts.takeover.closed = True
        grace_s = self.config.cancel_grace_s
        await self._parts.order.settled(grace_s)
        if not self.store.durable:
            await drain(self._turns, deadline_s=deadline_s, grace_s=grace_s)
        else:
            others = self._parts.replicas.serving
            await hand_over(self._turns, deadline_s=deadline_s, grace_s=grace_s, others=others)
        self._drained = True

    def _cancel_all(self, agent: str) -> None:
        for turn in [t for t in self._turns.live.values() if t.record.agent == agent]:
            self._turns.stopping.stop(turn, Stop("cancelled"))

    def _tick(self) -> None:
        self._tick_timer = self._loop.call_later(self.config.tick_s / _STORE_TICKS, self._tick)
        self._ticks += 1
        self.store.tick()
        if self._ticks % _STORE_TICKS == 1:
            now = self._turns.clock()
            for dispatcher in self._dispatchers.values():
                dispatcher.tick(now)

    # --- the pool itself

    def stats(self) -> PoolStats:
        """What the pool is like now."""
        now = self._turns.clock()
        return PoolStats(
            name=self.name,
            draining=self.draining,
            agents=tuple(agent_stats(d, now) for d in self._dispatchers.values()),
            turns=len(self._turns.live),
            sessions=len(self._sessions),
            replicas=self._parts.replicas.others,
        )

    async def resize(
        self,
        agent: str,
        *,
        min: int | None = None,  # noqa: A002 - the word of the protocol
        max: int | None = None,  # noqa: A002
    ) -> None:
        """Set how many actors an agent has at least and at most."""
        self._check_agent(agent)
        dispatcher = self._dispatchers[agent]
        least = dispatcher.least if min is None else min
        most = dispatcher.most if max is None else max
        if least < 0 or most < 1 or least > most:
            raise InvalidRequest(f"min {least} and max {most}: 0 <= min <= max and 1 <= max")
        dispatcher.resize(least, most)

    async def ready(self) -> dict[str, str | None]:
        """For each thing that the pool needs: None if it is well, else what is wrong."""
        checks: dict[str, str | None] = {
            "draining": "the pool is draining" if self.draining else None
        }
        try:
            await self.store.ping()
            checks["store"] = None
        except StoreUnavailable as error:
            checks["store"] = error.detail
        for name, dispatcher in self._dispatchers.items():
            checks[f"agent:{name}"] = dispatcher.ailment
        return checks
