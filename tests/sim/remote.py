"""A store that several processes share, as one of them sees it; and what all of them did to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from functools import partial
from random import Random
from typing import Any, Literal, TypeVar

from msgspec.structs import replace

from pool.errors import PoolError, StoreUnavailable
from pool.events import Event, TurnEnded
from pool.store.base import Accepted, Lease, Page, SessionKey, StateChange
from pool.store.memory import MemoryStore
from pool.store.memory_session import SessionRecord
from pool.store.memory_sessions import key_of
from pool.store.sharing import Claim, DecideCall, Inbox, Nudge, Signal
from pool.turn import Turn
from tests.support.stores import WrappedStore

T = TypeVar("T")

Pace = Literal["suspends", "slow"]


class Ledger(MemoryStore):
    """A store in memory that counts what was done to it."""

    def __init__(self, *, clock: Callable[[], float], lease_s: float) -> None:
        super().__init__(clock=clock, lease_ttl_s=lease_s)
        # turns that have not ended
        self.unended: dict[str, SessionKey] = {}
        # how often each turn was committed with an effect
        self.commits: Counter[str] = Counter()
        # how often each turn was claimed with its session, or found in an inbox
        self.moves: Counter[str] = Counter()
        # turns that were accepted without their process being told
        self.doubted: set[str] = set()
        # questions that were decided: turn, call and the place where it was asked
        self.decided: Counter[tuple[str, str, int]] = Counter()

    def lease(self, key: SessionKey) -> Lease | None:
        """Who may write to the session now."""
        session = self._sessions.live.get(key)
        return session.lease if session is not None and session.held else None

    def keys(self) -> list[SessionKey]:
        """All sessions."""
        return [key_of(name) for name in self._sessions.resting] + list(self._sessions.live)

    async def all_turns(self, tenant: str) -> list[Turn]:
        """All turns of a tenant."""
        keys = [key for key in self.keys() if key.tenant == tenant]
        return [turn for key in keys for turn in (await self.turns(key, None, 1_000)).items]

    def watchers(self) -> dict[SessionKey, set[str]]:
        """Who watches which session."""
        live = self._sessions.live.items()
        return {key: record.mail.watchers for key, record in live if record.mail is not None}

    def held(self) -> dict[SessionKey, str]:
        """Which sessions somebody holds."""
        live = self._sessions.live.items()
        return {key: record.lease.owner for key, record in live if record.held and record.lease}

    def _watchers(self, session: SessionRecord, now: float) -> list[str]:
        # the order of a set of names is not the seed's
        return sorted(super()._watchers(session, now))

    async def accept(self, turn: Turn, *, owner: str, **options: Any) -> Accepted:
        """Also opens the turn."""
        accepted = await super().accept(turn, owner=owner, **options)
        if accepted.new and not accepted.turn.ended:
            self.unended[turn.id] = SessionKey(turn.tenant, turn.session_id)
        return accepted

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        """Also counts the commit, if it is one."""
        released = await super().commit(lease, turn, events, state)
        if await self.turn(turn.id) is turn:
            self.commits[turn.id] += 1
        self.unended.pop(turn.id, None)
        return released

    async def claim(self, key: SessionKey, owner: str) -> Claim | None:
        """Also counts the turns that move."""
        claim = await super().claim(key, owner)
        if claim is not None:
            self.moves.update(turn.id for _, turn in claim.turns)
        return claim

    async def signal(self, key: SessionKey, signal: Signal) -> bool:
        """Also counts decisions."""
        kept = await super().signal(key, signal)
        if kept and isinstance(signal, DecideCall):
            self.decided[signal.turn_id, signal.call_id, signal.asked] += 1
        return kept


class Remote(WrappedStore):
    """The store as one process sees it, that may be killed, stopped, or cut off from the store.

    Calls suspend, or take a while, on their way there and back; what goes in and out are copies.
    `refuses`, `loses`: how many of the calls are not made, or made and not answered, 0 to 1.
    """

    def __init__(self, store: Ledger, random: Random, pace: Pace) -> None:
        super().__init__(store)
        self.durable = True
        self.suspends = True
        self.refuses = 0.0
        self.loses = 0.0
        self.dead = False
        # turns that this process did not admit itself
        self.foreign: set[str] = set()
        self._ledger = store
        self._random = random
        self._pace = pace
        self._joined: dict[str, Callable[[Nudge], None]] = {}
        # the same with those that have left, if the store heard of it
        self._owners: dict[str, None] = {}
        self._missed: list[tuple[str, Nudge]] = []
        self._stopped: asyncio.Event | None = None
        self._silent = False
        self._ticks = 0

    # --- what may become of the process

    def die(self) -> None:
        """It is killed: its calls fail, and nothing keeps it alive."""
        self.dead = True
        self._fall_silent()
        if self._stopped is not None:
            self._stopped.set()

    def stop(self) -> None:
        """It stands still: its calls and nudges wait, and nothing keeps it alive."""
        if self._stopped is None:
            self._stopped = asyncio.Event()
            self._fall_silent()

    def go_on(self) -> None:
        """It goes on where it was stopped."""
        stopped, self._stopped = self._stopped, None
        if stopped is None or self.dead:
            return
        stopped.set()
        self._speak()
        missed, self._missed = self._missed, []
        for owner, nudge in missed:
            asyncio.get_running_loop().call_soon(self._nudged, owner, nudge)

    def cut_off(self, *, refuses: float, loses: float, silent: bool) -> None:
        """From now on some calls fail, and nudges are lost; `silent`: nothing keeps it alive."""
        self.refuses, self.loses = refuses, loses
        self._silent = silent
        if silent:
            self._fall_silent()

    def restored(self) -> None:
        """The store can be reached again; whoever listens is told that nudges may be missing."""
        self.refuses = self.loses = 0.0
        if self.dead:
            return
        if self._silent and self._stopped is None:
            self._speak()
        self._silent = False
        for owner in self._joined:
            asyncio.get_running_loop().call_soon(self._nudged, owner, Nudge("all"))

    @property
    def faulty(self) -> bool:
        """Whether it is dead, stopped or cut off."""
        return self.dead or self._stopped is not None or bool(self.refuses or self.loses)

    # --- its calls

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await self._way()
        self._check(name)
        if self._random.random() < self.refuses:
            raise StoreUnavailable(f"the store cannot be reached for {name}")
        failure: PoolError | None = None
        try:
            answer = _own(await call())
        except PoolError as error:
            failure = error
        lost = self._random.random() < self.loses
        await self._way()
        self._check(name)
        if lost:
            if failure is None and isinstance(answer, Accepted):
                self._ledger.doubted.add(answer.turn.id)
            raise StoreUnavailable(f"the answer of {name} was lost")
        if failure is not None:
            raise failure
        self._note(answer)
        return answer

    async def _way(self) -> None:
        if self._pace == "slow":
            await asyncio.sleep(self._random.choice([0, 0.02, 0.2]))
        else:
            for _ in range(self._random.randint(1, 2)):
                await asyncio.sleep(0)
        while self._stopped is not None and not self.dead:
            await self._stopped.wait()

    def _check(self, name: str) -> None:
        if self.dead:
            raise StoreUnavailable(f"this process is dead and calls {name} no more")

    def _note(self, answer: object) -> None:
        if isinstance(answer, Claim):
            self.foreign.update(turn.id for _, turn in answer.turns)
        elif isinstance(answer, Inbox):
            self.foreign.update(answer.turns)

    async def open(self) -> None:
        """The store is there already."""

    async def close(self) -> None:
        """The store is the others' too."""

    def tick(self) -> None:
        # one of ten: the store keeps house for all its processes, and they are idle mostly
        self._ticks += 1
        if self._ticks % 10 == 0 and not (self.dead or self._stopped):
            self.store.tick()

    async def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        self._joined[owner] = nudged
        self._owners[owner] = None
        await super().join(owner, partial(self._nudged, owner))

    async def leave(self, owner: str) -> None:
        self._joined.pop(owner, None)
        await super().leave(owner)

    def announce(self, owner: str, status: bytes) -> None:
        if not (self.dead or self._stopped or self._silent):
            self.store.announce(owner, status)

    async def accept(self, turn: Turn, *, owner: str, **options: Any) -> Accepted:
        return await super().accept(_own_turn(turn), owner=owner, **options)

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        turn = None if turn is None else _own_turn(turn)
        return await super().append(lease, _own_events(events), turn, state)

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        return await super().commit(lease, _own_turn(turn), _own_events(events), state)

    def _fall_silent(self) -> None:
        for owner in self._owners:
            self._ledger.members.silence(owner)

    def _speak(self) -> None:
        for owner in self._joined:
            self._ledger.members.join(owner, partial(self._nudged, owner))

    def _nudged(self, owner: str, nudge: Nudge) -> None:
        if self.dead or owner not in self._joined:
            return
        if self._stopped is not None:
            self._missed.append((owner, nudge))
        elif self._random.random() >= self.refuses:
            self._joined[owner](nudge)


def _own(answer: T) -> T:
    """The same, with turns that are objects of their own: who gets them changes them."""
    mine: Any = answer
    if isinstance(answer, Turn):
        mine = _own_turn(answer)
    elif isinstance(answer, Accepted):
        mine = answer._replace(turn=_own_turn(answer.turn))
    elif isinstance(answer, Claim):
        mine = answer._replace(turns=[(number, _own_turn(turn)) for number, turn in answer.turns])
    elif isinstance(answer, Inbox):
        mine = answer._replace(turns={key: _own_turn(turn) for key, turn in answer.turns.items()})
    elif isinstance(answer, Page):
        mine = answer._replace(items=[_own(item) for item in answer.items])
    return mine  # type: ignore[no-any-return]


def _own_turn(turn: Turn) -> Turn:
    return replace(turn, usage=copy(turn.usage))


def _own_events(events: Sequence[Event]) -> list[Event]:
    mine = [copy(event) for event in events]
    for event in mine:
        if isinstance(event, TurnEnded):
            event.turn = _own_turn(event.turn)
    return mine
