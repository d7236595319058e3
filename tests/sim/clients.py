"""Callers who find a process at random for each thing that they do, and another if that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any, Literal, TypeVar, get_args

from pool import Cursor, Event, TurnRequest
from pool.errors import (
    Conflict,
    Draining,
    NotFound,
    PoolError,
    Refused,
    SessionBusy,
    StoreUnavailable,
)
from pool.events import TurnEnded
from pool.store.base import SessionKey
from pool.turn import Turn
from tests.sim.callers import Callers
from tests.sim.replica import Book, Broken, Replica
from tests.support.witness import Asked, Read, principal_of

T = TypeVar("T")

Manner = Literal["ask", "stream", "submit"]
Then = Literal["wait", "read", "cancel", "forget"]

# What a client takes for "try again, elsewhere".
ELSEWHERE = (Broken, StoreUnavailable, Draining)
# How often a request with an idempotency key is made again.
TRIES = 20


@dataclass
class SessionRead:
    """What one reader of a session saw: all that came after `since` (None: it has not begun)."""

    key: SessionKey
    since: Cursor | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def after(self) -> Cursor | None:
        """Where to go on."""
        return self.events[-1].cursor if self.events else self.since


class Clients:
    """Ask any process; wait, read, cancel and decide at any other."""

    def __init__(self, book: Book, random: Random, callers: Callers) -> None:
        self._book = book
        self._random = random
        self._callers = callers
        self._loop = asyncio.get_running_loop()
        self.session_reads: list[SessionRead] = []

    # --- where

    async def any(self) -> Replica:
        """Some process that serves; seldom one that is about to end."""
        while True:
            found = [r for r in self._book.replicas if r.fate == "up"]
            if self._random.random() < 0.1:
                found += [r for r in self._book.replicas if r.fate == "leaving"]
            if found:
                return self._random.choice(found)
            await asyncio.sleep(0.1)

    async def _somewhere(self, what: Callable[[Replica], Awaitable[T]]) -> T:
        # until some process has done it
        while True:
            at = await self.any()
            try:
                return await at.serve(what(at))  # type: ignore[arg-type]
            except ELSEWHERE:
                await asyncio.sleep(self._random.choice([0, 0.1, 0.5]))

    # --- asking

    async def call(self) -> None:
        """Make one call in some manner; perhaps leave in the middle of it."""
        random = self._random
        asked, request, key = self._callers.draw()
        calling = asyncio.create_task(self._call(asked, request, key))
        if random.random() < 0.2:
            await asyncio.wait([calling], timeout=random.choice([0, 0, 0.05, random.random() * 2]))
            if not calling.done():
                asked.given_up |= request.on_disconnect == "cancel"
                calling.cancel()
        await asyncio.wait([calling])
        if asked.fate == "open" and not asked.trying:
            asked.fate = "left"
        if not calling.cancelled():
            calling.result()

    async def _call(self, asked: Asked, request: TurnRequest, key: str | None) -> None:
        asked.trying += 1
        before = asked.fate
        if before == "refused":
            asked.fate = "open"
        try:
            turn_id = await self._send(asked, request, key, before)
        except asyncio.CancelledError:
            if asked.fate == "open":
                # it may be accepted all the same
                asked.fate = "left"
            raise
        finally:
            asked.trying -= 1
        if turn_id is not None:
            await self._go_on(asked, turn_id)

    async def _send(
        self, asked: Asked, request: TurnRequest, key: str | None, before: str
    ) -> str | None:
        # the turn, if there is more to do about it
        manner = self._random.choice(get_args(Manner))
        for _ in range(TRIES):
            at = await self.any()
            if asked.at is None:
                asked.at = self._loop.time()
            asked.pools.append(at.name)
            try:
                return await at.serve(self._ask(at, manner, asked, request, key))
            except PoolError as error:
                if error.turn_id is not None:
                    self.accepted(asked, error.turn_id)
                    return error.turn_id if isinstance(error, Draining) else None
                if isinstance(error, Refused | SessionBusy):
                    self._refused(asked, before, error)
                    return None
                if not isinstance(error, StoreUnavailable):
                    raise
                # it is cancelled, should it have been accepted: nobody could ask for it again
                asked.given_up |= key is None
            except Broken:
                if asked.turn_id:
                    return asked.turn_id
            if key is None:
                asked.fate = "left"
                return None
            await asyncio.sleep(self._random.choice([0, 0.1, 1.0]))
        return None

    async def _ask(
        self, at: Replica, manner: Manner, asked: Asked, request: TurnRequest, key: str | None
    ) -> str | None:
        options: dict[str, Any] = {
            "session": asked.key.id,
            "idempotency_key": key,
            "principal": principal_of(asked.key.tenant),
        }
        if manner == "submit":
            turn = (await at.pool.accept(request, **options)).turn
            await self._told(asked, turn)
            return turn.id
        options.update(
            agent=request.agent,
            deadline_s=request.deadline_s,
            priority=request.priority,
            if_busy=request.if_busy,
            on_disconnect=request.on_disconnect,
        )
        if manner == "ask":
            since = self._loop.time()
            await self._told(asked, await at.pool.ask(request.input, **options), since)
            return None
        read: Read | None = None
        enough = self._random.choice([1, 2, 3, 1_000, 1_000])
        async with aclosing(at.pool.stream(request.input, **options)) as events:
            async for event in events:
                if read is None:
                    read = self._read(asked, event.turn_id)
                await at.witness.saw(read, event)
                read.whole = event.terminal
                if len(read.events) >= enough and not event.terminal:
                    asked.given_up |= request.on_disconnect == "cancel"
                    break
        return None

    def _read(self, asked: Asked, turn_id: str) -> Read:
        self.accepted(asked, turn_id)
        read = Read(turn_id, asked.key)
        self._book.reads.append(read)
        return read

    async def _told(self, asked: Asked, turn: Turn, since: float = inf) -> None:
        self.accepted(asked, turn.id)
        await self._book.told(asked.key, turn, since)

    def accepted(self, asked: Asked, turn_id: str) -> None:
        """The request became this turn."""
        if asked.turn_id and asked.turn_id != turn_id:
            self._book.wrong(4, f"{asked} is now turn {turn_id}: accepted twice")
        asked.fate = "accepted"
        asked.turn_id = turn_id

    def _refused(self, asked: Asked, before: str, refused: PoolError) -> None:
        if before == "accepted" and asked.turn_id:
            self._book.wrong(4, f"{asked} was accepted before and is now refused: {refused!r}")
        if asked.fate == "open" and asked.trying == 1:
            asked.fate = "refused"

    # --- what comes after that

    async def _go_on(self, asked: Asked, turn_id: str) -> None:
        then = self._random.choice(get_args(Then))
        if then == "wait":
            await self._wait(asked, turn_id)
        elif then == "read":
            await self._read_in_parts(asked, turn_id)
        elif then == "cancel":
            await asyncio.sleep(self._random.choice([0, 0.1, 0.5]))
            asked.given_up = True
            turn = await self._somewhere(
                lambda at: at.pool.cancel(turn_id, principal=principal_of(asked.key.tenant))
            )
            self._book.cancelled_at.setdefault(turn_id, self._loop.time())
            await self._told(asked, turn)

    async def _wait(self, asked: Asked, turn_id: str) -> None:
        timeout_s = self._random.choice([None, 0.0, 0.3, 1.0])
        since = self._loop.time()
        turn = await self._somewhere(
            lambda at: at.pool.wait(
                turn_id,
                timeout_s=timeout_s,
                until_paused=True,
                principal=principal_of(asked.key.tenant),
            )
        )
        await self._told(asked, turn, since)

    async def _read_in_parts(self, asked: Asked, turn_id: str) -> None:
        read = self._read(asked, turn_id)
        while not read.whole:
            await self._somewhere(lambda at: self._read_some(at, read))

    async def _read_some(self, at: Replica, read: Read) -> None:
        since = self._loop.time()
        enough = self._random.choice([1, 2, 5, 1_000])
        events = at.pool.events(
            read.turn_id,
            after=read.events[-1].cursor if read.events else None,
            principal=principal_of(read.key.tenant),
        )
        async with aclosing(events):
            async for event in events:
                await at.witness.saw(read, event)
                read.whole = event.terminal
                if isinstance(event, TurnEnded):
                    await self._book.told(read.key, event.turn, since)
                enough -= 1
                if not enough:
                    return
        # it says that there is no more
        read.whole = True

    # --- who watches a session

    async def watch(self, key: SessionKey) -> None:
        """Read a session, at one process after the other, until it is told to stop."""
        read = SessionRead(key)
        self.session_reads.append(read)
        while True:
            at = await self.any()
            try:
                await at.serve(self._watch_some(at, read))
            except NotFound:
                await asyncio.sleep(0.3)
            except ELSEWHERE:
                await asyncio.sleep(self._random.choice([0, 0.1, 0.5]))

    async def _watch_some(self, at: Replica, read: SessionRead) -> None:
        reader = await at.pool.watch_session(
            read.key.id, after=read.after, principal=principal_of(read.key.tenant)
        )
        if read.since is None:
            read.since = reader.cursor
        try:
            for _ in range(self._random.choice([1, 3, 1_000])):
                read.events += await reader.take(self._random.choice([1, 5, 1_000]))
                await reader.wait()
        finally:
            reader.close()

    # --- the humans

    async def decide_all(self) -> None:
        """Decide about every call that waits now; sometimes twice at once, at two processes."""
        for turn_id in list(self._book.ledger.unended):
            turn = await self._book.ledger.turn(turn_id)
            if turn is None or turn.state != "waiting":
                continue
            for pending in turn.pending:
                times = self._random.choice([1, 1, 2])
                choices = [self._decide(turn_id, pending.call_id, turn) for _ in range(times)]
                await asyncio.gather(*choices)

    async def _decide(self, turn_id: str, call_id: str, turn: Turn) -> None:
        principal = principal_of(turn.tenant)
        at = await self.any()
        try:
            if self._random.random() < 0.2:
                self._book.asked_by(turn).given_up = True
                await at.serve(at.pool.cancel(turn_id, principal=principal))
                self._book.cancelled_at.setdefault(turn_id, self._loop.time())
                return
            await at.serve(
                at.pool.decide(
                    turn_id,
                    call_id,
                    self._random.choice(["approve", "deny"]),
                    arguments=None,
                    principal=principal,
                )
            )
        except (Conflict, NotFound, *ELSEWHERE):
            return
        self._book.decided[turn_id, call_id] += 1
