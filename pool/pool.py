"""The pool: agents, their actors and queues, sessions and a store, tied together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from random import Random
from types import TracebackType
from typing import Any, Self, Unpack
from uuid import uuid4

import structlog

from pool import scope
from pool.assembly import add_dispatchers
from pool.blame import Blame
from pool.clock import clock_of
from pool.config import PoolConfig
from pool.decisions import Decisions
from pool.dispatcher import Dispatcher
from pool.drain import drain, give_up, hand_over
from pool.errors import Conflict, InvalidRequest, StoreUnavailable
from pool.events import Event
from pool.follow import Followers
from pool.ids import Ids, session_of_key
from pool.intake import Entry, Intake
from pool.letters import Letters
from pool.observer import Notice, Observer, Observers, TurnEndedNotice
from pool.order import InOrder
from pool.outcome import raise_for
from pool.replicas import Replicas
from pool.sessions import Sessions
from pool.specs import specs_of
from pool.stats import PoolStats, agent_stats
from pool.store.base import SessionKey, Store
from pool.store.memory import MemoryStore
from pool.takeover import Takeover
from pool.telemetry.watchdog import Watchdog
from pool.turn import ANYONE, Principal, Turn, TurnOptions, TurnRequest, request_of
from pool.turns import Turns
from pool.upkeep import Upkeep
from pool.watch import Watch
from pool.webhooks import Deliveries, Webhooks

_log = structlog.get_logger("pool.pool")


class _NotOpen:
    """Stands for every part of a pool that has not been opened."""

    def __getattr__(self, name: str) -> Any:
        raise Conflict("this pool is not open; use it within `async with`, or await open() first")


class _Ended:
    """Tells of the end of turns."""

    def __init__(self, ended: Callable[[Turn], None]) -> None:
        self._ended = ended

    def notice(self, notice: Notice) -> None:
        if isinstance(notice, TurnEndedNotice):
            self._ended(notice.turn)


# The store keeps house in small steps: so many for each tick of the pool.
_STORE_TICKS = 10


class AgentPool(Watch):
    """A supervised pool of agent actors.

        async with AgentPool(agent) as pool:
            turn = await pool.ask("hi", session="s1")

    `agents`: one agent or `AgentSpec`, or a mapping of names to them; the first is the default.
    `store`: where sessions live (default: in memory; one that is given is not closed with the
    pool). `name`: the pool's name as the owner of leases. `seed`: for the random numbers of backoff
    and jitter. `webhooks`: who posts ended turns (default: nobody; they are refused). `wall`: the
    time of day, in seconds since the epoch; everything else goes by the loop's clock.
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
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config or PoolConfig()
        self.specs = specs_of(agents)
        self.default_agent = next(iter(self.specs))
        self.name = name or f"pool-{uuid4().hex[:12]}"
        self.store: Store = store if store is not None else MemoryStore()
        self._owns_store = store is None
        self._webhooks = webhooks
        self._deliveries: Deliveries | None = None
        watching = () if webhooks is None else (_Ended(self._turn_ended),)
        self._observers = Observers((*observers, *watching))
        self._random = Random(seed)
        self._wall = wall
        self._ids = Ids()
        self._dispatchers: dict[str, Dispatcher] = {}
        self._opened = False
        self._ticks = 0
        self._tick_timer: asyncio.TimerHandle | None = None
        self._watchdog: Watchdog | None = None
        self._ending: asyncio.Task[None] | None = None
        not_open: Any = _NotOpen()
        self._loop = self._sessions = self._turns = not_open
        self._intake: Intake = not_open
        self._decisions = self._followers = self._order = not_open
        self._replicas: Replicas = not_open
        self._takeover: Takeover = not_open
        self._upkeep: Upkeep = not_open
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
        wall = self._wall
        self._sessions = Sessions(lambda session: self._followers.check_soon(session))
        self._turns = Turns(
            config=self.config,
            store=self.store,
            sessions=self._sessions,
            dispatchers=self._dispatchers,
            observers=self._observers,
            clock=clock_of(loop),
            wall=wall,
            random=self._random,
        )
        add_dispatchers(
            self._dispatchers,
            self.specs,
            self._turns,
            config=self.config,
            observers=self._observers,
            random=self._random,
        )
        spawn = self._turns.errands.spawn
        order = self._order = InOrder(spawn)
        letters = Letters(self.store, self._turns)
        self._decisions = Decisions(self.store, self._turns, letters, order)
        self._turns.approvals.lapsed = self._decisions.lapsed
        self._followers = Followers(self.name, self.store, session=self._sessions.get, spawn=spawn)
        self._replicas = Replicas(self.name, self.store, self.stats)
        self._takeover = Takeover(
            name=self.name,
            config=self.config,
            store=self.store,
            sessions=self._sessions,
            turns=self._turns,
            dispatchers=self._dispatchers,
            order=order,
            letters=letters,
        )
        self._intake = Intake(
            name=self.name,
            config=self.config,
            store=self.store,
            sessions=self._sessions,
            turns=self._turns,
            dispatchers=self._dispatchers,
            default_agent=self.default_agent,
            ids=self._ids,
            observers=self._observers,
            wall=wall,
            order=order,
            letters=letters,
            replicas=self._replicas,
            webhooks=self._webhooks,
        )
        self._upkeep = Upkeep(
            self.store,
            replicas=self._replicas,
            takeover=self._takeover,
            sessions=self._sessions,
            followers=self._followers,
            letters=letters,
            order=order,
            spawn=spawn,
            every_s=self.config.tick_s,
        )
        await self.store.join(self.name, self._upkeep.nudged)
        self._tracking = scope.track(loop)
        if self.config.watchdog_s:
            blame = Blame(self._turns.live, self._observers, loop)
            self._watchdog = Watchdog(self.config.watchdog_s, blame)
            self._watchdog.start(loop)
        self._tick()
        self._upkeep.start()
        if self._webhooks is not None:
            self._deliveries = Deliveries(
                self._webhooks,
                store=self.store,
                config=self.config,
                observers=self._observers,
                random=self._random,
            )
            self._deliveries.start()

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
        await self._upkeep.stop()
        self._turns.close()
        grace_s = self.config.cancel_grace_s
        await asyncio.gather(*(d.supervisor.close(grace_s) for d in self._dispatchers.values()))
        await give_up(self._turns)
        if self._deliveries is not None:
            await self._deliveries.close(grace_s=grace_s)
        if self._watchdog is not None:
            self._watchdog.stop()
        await self._leave_store()
        scope.untrack(self._loop, self._tracking)
        if self._owns_store:
            await self.store.close()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None

    def _turn_ended(self, turn: Turn) -> None:
        if self._deliveries is not None:
            self._deliveries.ended(turn)

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

    async def drain(self, *, deadline_s: float) -> None:
        """Take no more turns and wait for those that run, at most so long; then interrupt them, or
        give them back to a store that outlives the process.

        Returns within `deadline_s` plus `cancel_grace_s`. May be called again, with less time.
        """
        self._intake.closed = self._takeover.closed = True
        grace_s = self.config.cancel_grace_s
        await self._order.settled(grace_s)
        if not self.store.durable:
            await drain(self._turns, deadline_s=deadline_s, grace_s=grace_s)
            return
        others = self._replicas.serving
        await hand_over(self._turns, deadline_s=deadline_s, grace_s=grace_s, others=others)

    def _tick(self) -> None:
        self._tick_timer = self._loop.call_later(self.config.tick_s / _STORE_TICKS, self._tick)
        self._ticks += 1
        self.store.tick()
        if self._ticks % _STORE_TICKS == 1:
            now = self._turns.clock()
            for dispatcher in self._dispatchers.values():
                dispatcher.tick(now)

    # --- asking

    async def ask(
        self,
        input: str,  # noqa: A002 - the word of the protocol
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        **options: Unpack[TurnOptions],
    ) -> Turn:
        """Ask an agent and wait for its answer (`turn.output`), or for the turn to pause.

        Raises what the turn ended with: `AgentFailed`, `DeadLetter`, `DeadlineExceeded`; and what
        refused it: `Refused` and its kin. Cancelling the call cancels the turn, unless
        `on_disconnect` is `"continue"`. Called by an agent in its turn, the turn asked for is part
        of it: it shares the permit, the principal and the deadline.
        """
        entry = await self._intake.enter(
            request_of(input, options, on_disconnect="cancel"),
            self._session_key(session, idempotency_key, principal),
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
            nested=True,
        )
        live = entry.live
        if live is None and (entry.turn.ended or not self.store.durable):
            turn = entry.turn
        else:
            try:
                if live is not None:
                    await self._ended(live)
                if live is not None and live.moved:
                    self._check_moved(live)
                if live is None or live.moved:
                    turn = await self._outcome(entry.turn.id, principal=_owner(entry.turn))
                else:
                    turn = live.snapshot()
            except asyncio.CancelledError:
                self._left(entry)
                raise
        raise_for(turn)
        return turn

    async def submit(
        self,
        input: str,  # noqa: A002
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        **options: Unpack[TurnOptions],
    ) -> Turn:
        """Have a turn accepted and return at once; see `wait`, `events`, `cancel`."""
        turn, _ = await self.accept(
            request_of(input, options, on_disconnect="continue"),
            session=session,
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
        )
        return turn

    async def stream(
        self,
        input: str,  # noqa: A002
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
        **options: Unpack[TurnOptions],
    ) -> AsyncGenerator[Event, None]:
        """Ask an agent and watch: the turn's events to its terminal one.

        Leaving the loop early cancels the turn, unless `on_disconnect` is `"continue"`.
        """
        entry = await self._intake.enter(
            request_of(input, options, on_disconnect="cancel"),
            self._session_key(session, idempotency_key, principal),
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
            nested=True,
        )
        try:
            async with aclosing(self.events(entry.turn.id, principal=_owner(entry.turn))) as events:
                async for event in events:
                    yield event
        finally:
            self._left(entry)

    async def accept(
        self,
        request: TurnRequest,
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        principal: Principal = ANYONE,
        request_id: str = "",
    ) -> tuple[Turn, bool]:
        """Have a validated request accepted; the turn, and whether it is new (not an earlier one
        with the same idempotency key).
        """
        entry = await self._intake.enter(
            request,
            self._session_key(session, idempotency_key, principal),
            idempotency_key=idempotency_key,
            principal=principal,
            request_id=request_id,
        )
        turn = entry.turn if entry.live is None else entry.live.snapshot()
        return turn, entry.new

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
            replicas=self._replicas.others,
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

    def _session_key(
        self, session: str | None, idempotency_key: str | None, principal: Principal
    ) -> SessionKey:
        if session is not None:
            return self._key(session, principal)
        tenant = principal.tenant
        if idempotency_key is not None:
            # the same key finds the same session, and in it the same turn
            return SessionKey(tenant, session_of_key(tenant, idempotency_key))
        return SessionKey(tenant, self._ids.session())

    def _left(self, entry: Entry) -> None:
        """Who asked no longer waits."""
        if entry.new and entry.turn.request.on_disconnect == "cancel":
            self._intake.withdraw(entry)


def _owner(turn: Turn) -> Principal:
    return Principal(turn.tenant, turn.user)
