"""One of several processes on a store: its pool, what comes in at it, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Final, Literal, TypeVar

from pool import AgentPool
from pool.live import LiveTurn
from pool.session import Session
from pool.store.base import SessionKey
from pool.turn import Turn
from tests.sim.remote import Ledger, Remote
from tests.support.witness import Asked, Read, Run, Witness, number_of

T = TypeVar("T")

Fate = Literal["up", "leaving", "dead", "gone"]


# How long after a fault things may still be late, in seconds.
AFTERMATH_S: Final = 15.0
# How late a caller at any replica learns of an end, while nothing is amiss, in seconds.
TOLD_S: Final = 1.5


class Broken(Exception):
    """The process at the other end of a connection is gone."""


class Book:
    """What happened in all processes together."""

    def __init__(self, ledger: Ledger, epoch_s: float, told_s: float) -> None:
        self.ledger = ledger
        # how late callers may be told of an end
        self.told_s = told_s
        # the time of day at the loop's time 0
        self.epoch_s = epoch_s
        self.wrongs: list[str] = []
        self.asked: dict[int, Asked] = {}
        self.runs: list[Run] = []
        self.reads: list[Read] = []
        self.leaked: list[asyncio.Task[None]] = []
        self.replicas: list[Replica] = []
        # when something was done to a process or its way to the store
        self.faults: list[float] = []
        # whether a process was killed, or lost its leases
        self.violent = False
        # whether the store could not be reached by some process for a while
        self.cut_off = False
        # when somebody asked for the end of a turn and was told that it is on its way
        self.cancelled_at: dict[str, float] = {}
        # what agents did upon a human's decision: turn, call and what the gate said
        self.used: list[tuple[str, str, str]] = []
        # how often a human was told that a decision counts: by turn and call
        self.decided: Counter[tuple[str, str]] = Counter()

    def calm(self, since: float, now: float) -> bool:
        """Whether nothing was amiss in a time, nor for a while before it."""
        return not any(since - AFTERMATH_S < at <= now for at in self.faults)

    def up(self) -> list[Replica]:
        """Those that take turns, or stand still for a while."""
        return [replica for replica in self.replicas if replica.fate == "up"]

    def wrong(self, invariant: int, what: str) -> None:
        """Something happened that must not."""
        self.wrongs.append(f"invariant {invariant}: {what}")

    def asked_by(self, turn: Turn) -> Asked:
        """The request that became a turn."""
        return self.asked[number_of(turn)]

    async def told(self, key: SessionKey, turn: Turn, since: float = inf) -> None:
        """A caller was told of a turn: how it ended is final. It has waited for that `since`."""
        now = asyncio.get_running_loop().time()
        waited_s = now - max(since, (turn.finished_at or 0.0) - self.epoch_s)
        if turn.ended and waited_s > self.told_s and self.calm(now - waited_s, now):
            self.wrong(11, f"turn {turn.input!r} was told as {turn.state} {waited_s:.2f} s late")
        stored = await self.ledger.turn(turn.id)
        if stored is None:
            self.wrong(4, f"turn {turn.input!r} was told as {turn.state} and is not in the store")
        elif turn.ended and (stored.state, stored.output) != (turn.state, turn.output):
            self.wrong(4, f"turn {turn.input!r} was told as {turn.state}, and is {stored.state}")


class ReplicaWitness(Witness):
    """Watches one pool, and that only one process at a time runs a session."""

    def __init__(self, pool: AgentPool, remote: Remote, book: Book) -> None:
        super().__init__(pool, book.ledger)
        self._book = book
        self._remote = remote
        self.wrongs = book.wrongs
        self.asked = book.asked
        self.runs = book.runs
        self.reads = book.reads
        self.leaked = book.leaked
        self.used = book.used

    def wrong(self, invariant: int, what: str) -> None:
        """What a dead process does is nobody's concern."""
        if not self._remote.dead:
            super().wrong(invariant, f"{self.pool.name}: {what}")

    def began(self, run: Run, deadline: float, now: float) -> None:
        """Also: nobody else runs the session who could write to it."""
        session = self._session(run.key)
        if session is not None and session.lease is not None:
            run.epoch = session.lease.epoch
        super().began(run, deadline, now)
        run.valid = run in self.writers(run.key)
        witnesses = [replica.witness for replica in self._book.replicas]
        writers = [each for witness in witnesses for each in witness.writers(run.key)]
        if len(writers) > 1:
            self.wrong(3, f"several may write to the session: {writers}")

    def writers(self, key: SessionKey) -> list[Run]:
        """The runs of a session whose writes the store would take."""
        if self._remote.dead:
            return []
        session, lease = self._session(key), self._book.ledger.lease(key)
        if session is None or session.lease != lease or lease is None:
            return []
        return [
            run
            for run in self.running.values()
            if run.key == key
            and (live := self.live.get(run.turn_id)) is not None
            and live.session.lease is session.lease
            and run.epoch == lease.epoch
        ]

    def is_let_in(self, turn: LiveTurn) -> bool:
        """Also those that others admitted."""
        found = turn.id in self._remote.foreign or turn.id in self._book.ledger.doubted
        return found or super().is_let_in(turn)

    def _session(self, key: SessionKey) -> Session | None:
        return self.pool._sessions.get(key)


class Replica:
    """A process: it serves calls until it is told to end, or killed."""

    def __init__(
        self, name: str, remote: Remote, book: Book, make: Callable[[str, Remote], AgentPool]
    ) -> None:
        self.name = name
        self.remote = remote
        self.fate: Fate = "up"
        # whether it was killed, stopped, cut off or told to leave at some time
        self.shaken = False
        self.pool = make(name, remote)
        self.witness = ReplicaWitness(self.pool, remote, book)
        # in the order of their coming: that of a set would not be the seed's
        self._calls: dict[asyncio.Task[Any], None] = {}
        self._ending: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Replica {self.name} {self.fate}>"

    async def open(self) -> None:
        """Take part."""
        await self.pool.open()

    async def serve(self, call: Coroutine[Any, Any, T]) -> T:
        """What the process answers; `Broken` if it does not live to answer."""
        if self.fate in ("dead", "gone"):
            call.close()
            raise Broken
        task = self._loop.create_task(call)
        self._calls[task] = None
        task.add_done_callback(self._calls.pop)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            # whoever called has left: the process notices
            task.cancel()
            await asyncio.wait([task])
            raise
        if task.cancelled():
            raise Broken
        return task.result()

    def die(self) -> None:
        """It is killed. What is left of it here is cleared away, and harms nobody."""
        self.fate, self.shaken = "dead", True
        self.remote.die()
        for call in self._calls:
            call.cancel()
        self._end(self.pool.close(deadline_s=0))

    def leave(self, deadline_s: float) -> None:
        """It is told to end."""
        self.fate, self.shaken = "leaving", True
        self._end(self._leave(deadline_s))

    async def _leave(self, deadline_s: float) -> None:
        await self.pool.drain(deadline_s=deadline_s)
        self.witness.closing = True
        await self.pool.close()
        self.remote.die()
        for call in self._calls:
            call.cancel()
        self.fate = "gone"

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        if self._ending is not None:
            # it was leaving, and is killed now
            self._ending.cancel()
        self.witness.closing = True
        self._ending = self._loop.create_task(ending)

    async def ended(self, within_s: float) -> bool:
        """Whether it has ended, if it was to end."""
        if self._ending is None:
            return True
        done, _ = await asyncio.wait([self._ending], timeout=within_s)
        if done and not self._ending.cancelled():
            self._ending.result()
        return bool(done)
