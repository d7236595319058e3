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

from pool import scope
from pool.assembly import add_dispatchers
from pool.blame import Blame
from pool.clock import clock_of
from pool.config import PoolConfig
from pool.dispatcher import Dispatcher
from pool.drain import drain
from pool.errors import Conflict, InvalidRequest, StoreUnavailable
from pool.events import Event
from pool.ids import Ids, session_of_key
from pool.intake import Entry, Intake
from pool.live import Stop
from pool.observer import Observer, Observers
from pool.outcome import raise_for
from pool.sessions import Sessions
from pool.specs import specs_of
from pool.stats import PoolStats, agent_stats
from pool.store.base import SessionKey, Store
from pool.store.memory import MemoryStore
from pool.telemetry.watchdog import Watchdog
from pool.turn import ANYONE, Principal, Turn, TurnOptions, TurnRequest, request_of
from pool.turns import Turns
from pool.watch import Watch


class _NotOpen:
    """Stands for every part of a pool that has not been opened."""

    def __getattr__(self, name: str) -> Any:
        raise Conflict("this pool is not open; use it within `async with`, or await open() first")


# The store keeps house in small steps: so many for each tick of the pool.
_STORE_TICKS = 10


class AgentPool(Watch):
    """A supervised pool of agent actors.

        async with AgentPool(agent) as pool:
            turn = await pool.ask("hi", session="s1")

    `agents`: one agent or `AgentSpec`, or a mapping of names to them; the first is the default.
    `store`: where sessions live (default: in memory; one that is given is not closed with the
    pool). `name`: the pool's name as the owner of leases. `seed`: for the random numbers of backoff
    and jitter. `wall`: the time of day, in seconds since the epoch; everything else goes by the
    loop's clock.
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
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config or PoolConfig()
        self.specs = specs_of(agents)
        self.default_agent = next(iter(self.specs))
        self.name = name or f"pool-{uuid4().hex[:12]}"
        self.store: Store = store if store is not None else MemoryStore()
        self._owns_store = store is None
        self._observers = Observers(observers)
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
        self._sessions = Sessions(self.store)
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
        )
        self._tracking = scope.track(loop)
        if self.config.watchdog_s:
            blame = Blame(self._turns.live, self._observers, loop)
            self._watchdog = Watchdog(self.config.watchdog_s, blame)
            self._watchdog.start(loop)
        self._tick()

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
        self._turns.close()
        grace_s = self.config.cancel_grace_s
        await asyncio.gather(*(d.supervisor.close(grace_s) for d in self._dispatchers.values()))
        await self._turns.give_up()
        if self._watchdog is not None:
            self._watchdog.stop()
        scope.untrack(self._loop, self._tracking)
        if self._owns_store:
            await self.store.close()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None

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
        """Take no more turns and wait for those that run, at most so long; then interrupt them.

        Returns within `deadline_s` plus `cancel_grace_s`. May be called again, with less time.
        """
        self._intake.closed = True
        await self._intake.settled(self.config.cancel_grace_s)
        await drain(self._turns, deadline_s=deadline_s, grace_s=self.config.cancel_grace_s)

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
        if entry.live is not None:
            try:
                await self._ended(entry.live)
            except asyncio.CancelledError:
                self._left(entry)
                raise
        raise_for(entry.turn)
        return entry.turn if entry.live is None else entry.live.snapshot()

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
        live = entry.live
        if live is not None and entry.new and live.record.request.on_disconnect == "cancel":
            self._turns.stop(live, Stop("cancelled"))


def _owner(turn: Turn) -> Principal:
    return Principal(turn.tenant, turn.user)
