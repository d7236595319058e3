"""A turn that has not ended, as this process runs it: its record, and what is not stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from pool.errors import PoolError
from pool.store.lease import SessionKey
from pool.turn import IfBusy, Principal, Priority, State, Turn, TurnError, Usage

if TYPE_CHECKING:
    from pool.actor import Actor
    from pool.guard.budget import Grant
    from pool.limiter import Limiter
    from pool.session import Session
    from pool.store.base import AgentState

Phase = Literal["queued", "running", "waiting", "ending", "over"]


class Stop(Struct, frozen=True):
    """Why a turn is to end before its agent says so, and how it is then recorded.

    Without a state it does not end: it goes on in another process, or there begins anew.
    """

    state: State | None
    error: TurnError | None = None
    forgotten: bool = False


# How a turn that does not queue behind the running one ends that.
MAKES_WAY: Mapping[IfBusy, Stop] = {
    "interrupt": Stop("interrupted"),
    "rollback": Stop("cancelled", forgotten=True),
}

# Its session is another process's now, or is about to be.
MOVED = Stop(None)


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
    # whether its agent asked others
    has_asked: bool = False
    # whether its agent asked for a tool
    gated: bool = False
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
    # what a budget has set aside for it, and what it may do (None: nobody counts)
    grant: Grant | None = None
    # its place among all turns that its session has accepted
    number: int = 0
    # what its agent keeps of the session, if the store gave that with the turn
    loaded: AgentState | None = None
    # what it has used as far as the store knows (None: not even that this attempt has begun)
    stored_usage: Usage | None = None
    # what its agent said last that it has used: without what it does not know of
    reported: Usage | None = None
    # it ran in a process that ended, or an actor that broke: its next start is stored first
    distrusted: bool = False
    # its next start is its last, after others that ended a process: it runs apart from its like
    suspect: bool = False
    # it no longer runs here, and has not ended
    moved: bool = False
    # runs out when an agent that is to stop does not
    grace: asyncio.TimerHandle | None = None
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
        """Whether its end is stored, or none of this process's business."""
        return self.phase == "over"

    @property
    def key(self) -> SessionKey:
        """Its session's name."""
        return SessionKey(self.tenant, self.record.session_id)

    @property
    def makes_way(self) -> bool:
        """Whether it runs before the turns that wait in its session."""
        return self.record.request.if_busy in MAKES_WAY

    @property
    def at_work(self) -> bool:
        """Whether what its agent does now is the turn's."""
        return self.phase == "running" and not self.moved

    @property
    def ends(self) -> bool:
        """Whether it is on its way to an end that is not its agent's."""
        return self.stop is not None and self.stop.state is not None

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

    def resumable(self) -> Turn:
        """The record as it is once the store has a state from which its agent may go on."""
        return replace(self.record, resumes=True, kept_usage=self.reported or Usage())

    def wake(self) -> None:
        """Wake everybody who waits for it."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def revived(record: Turn, number: int, now: float, wall: float) -> LiveTurn:
    """A turn that another process accepted, or began, as it is to go on here. `now` is the loop's
    time, `wall` the time of day.

    Its principal has the roles that its caller had.
    """
    accepted_at = now - max(0.0, wall - record.created_at)
    if record.state == "running":
        # what was asked in an attempt that did not get to its pause is asked again
        record.pending = ()
    return LiveTurn(
        record=record,
        tenant=record.tenant,
        priority=record.request.priority,
        principal=Principal(record.tenant, record.user, record.roles),
        request_id="",
        parent=None,
        accepted_at=accepted_at,
        deadline=accepted_at + record.request.deadline_s,
        number=number,
        phase="waiting" if record.state == "waiting" else "queued",
        texts=[record.output] if record.output else [],
        distrusted=True,
    )


def not_begun(record: Turn) -> None:
    """Whoever accepted the turn took for granted that it starts at once: it has not, as we know."""
    record.state = "queued"
    record.attempt = 0
