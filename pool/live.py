"""A turn that has not ended, as this process runs it: its record, and what is not stored."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from pool.errors import PoolError
from pool.turn import Principal, Priority, State, Turn, TurnError

if TYPE_CHECKING:
    from pool.actor import Actor
    from pool.limiter import Limiter
    from pool.session import Session

Phase = Literal["queued", "running", "waiting", "ending", "over"]


class Stop(Struct, frozen=True):
    """Why a turn is to end before its agent says so, and how it is then recorded."""

    state: State
    error: TurnError | None = None
    forgotten: bool = False


class LiveTurn(Struct, kw_only=True, eq=False):
    """An accepted turn until its end. Times are on the loop's clock, in seconds."""

    record: Turn
    tenant: str
    priority: Priority
    principal: Principal
    request_id: str
    # the turn whose agent asked for this one and waits for it
    parent: LiveTurn | None
    accepted_at: float
    deadline: float
    # when it was last given to an actor
    started_at: float = 0.0
    phase: Phase = "queued"
    # given once the store has accepted the turn
    session: Session = None  # type: ignore[assignment]
    actor: Actor | None = None
    limiter: Limiter | None = None
    has_permit: bool = False
    # turns that run, or ran, on its permit
    riders: tuple[LiveTurn, ...] = ()
    # set while it is to end early
    stop: Stop | None = None
    # why its end could not be stored
    failure: PoolError | None = None
    # what it said in this attempt, and how much it has put into the log
    texts: list[str] = field(default_factory=list)
    bytes: int = 0
    events: int = 0
    first_text_at: float | None = None
    # its approvals were decided: the next start goes on with the same attempt
    continues: bool = False
    # whether the agent goes on from a state of this very turn
    resume: bool = False
    # tasks that its agent started and that still run
    tasks: set[asyncio.Task[object]] | None = None
    # futures of those who wait for its end or its next pause
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<LiveTurn {self.record.id} [{self.phase}]>"

    @property
    def id(self) -> str:
        """The turn's id."""
        return self.record.id

    @property
    def over(self) -> bool:
        """Whether its end is stored."""
        return self.phase == "over"

    @property
    def stopping(self) -> bool:
        """Whether it is to end before its agent says so."""
        return self.stop is not None

    @property
    def stoppable(self) -> bool:
        """Whether it can still be made to end early."""
        return self.phase in ("queued", "running", "waiting") and self.stop is None

    def snapshot(self) -> Turn:
        """The record as it is now: itself once the turn has ended, a copy before."""
        record = self.record
        if self.phase == "over":
            return record
        now = replace(record, output="".join(self.texts))
        if self.phase == "ending":
            # how it ends is only certain when the store has it
            now.state = "running" if record.attempt else "queued"
            now.error = now.finished_at = None
        return now

    def wake(self) -> None:
        """Wake everybody who waits for it."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
