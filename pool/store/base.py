"""The contract of a store: where sessions, turns, events and leases live.

One owner writes to a session at a time: the holder of its lease. A write whose (owner, epoch) is
not the lease's raises `LeaseLost` and changes nothing. All calls are idempotent or fenced, so that
a caller that lost the answer may call again.

`tests/contract` is this contract as a test suite; every store passes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from pool.events import Cursor, Event
from pool.store.cabinet import Cabinet
from pool.store.counters import Counters
from pool.store.lease import Lease as Lease
from pool.store.lease import SessionKey as SessionKey
from pool.store.outbox import Outbox
from pool.store.sharing import Sharing
from pool.store.transfer import Transfer
from pool.turn import Message, SessionInfo, Turn

T = TypeVar("T")


class AgentState(NamedTuple):
    """What an agent keeps of a session, and what the transcript has that the state has not."""

    format: str
    data: bytes | None
    version: int
    unseen: tuple[Message, ...]


class Accepted(NamedTuple):
    """The answer of `accept`.

    `turn` is the accepted turn, or the earlier one with the same idempotency key (`new` is False).
    `lease` is set if this call claimed the session; its log ends at `end`. None: it is held by
    `owner` ("": by nobody); if that is another, the turn is a letter in the session's inbox.
    `state` is what `load` would answer, if it was asked for and the session was claimed. `number`:
    a new turn is the session's `number`-th, from 1; a holder that misses one before it finds it in
    the inbox. `others`: this call claimed a session in which somebody left unfinished turns behind;
    `claim` says which.
    """

    turn: Turn
    new: bool
    lease: Lease | None
    owner: str
    end: Cursor
    state: AgentState | None = None
    number: int = 0
    others: bool = False


class StateChange(Struct, frozen=True):
    """How a turn leaves its agent's state: replaced, or grown by some bytes."""

    format: str
    data: bytes
    append: bool = False


class EventPage(NamedTuple):
    """Events in order. `lost` is set when what came after the asked cursor is gone: reading goes on
    after `lost`, the cursor of the last event that cannot be replayed."""

    events: Sequence[Event]
    lost: Cursor | None = None


class Page(NamedTuple, Generic[T]):
    """A part of a listing, and where the next part begins (None: this was the last)."""

    items: Sequence[T]
    next: str | None


class Store(Sharing, Outbox, Transfer, Cabinet, Counters, Protocol):
    """What every store can do. Errors: `StoreUnavailable`, `LeaseLost`, and those named."""

    # Whether what was accepted survives the process. If not, a drain ends what it cannot finish.
    durable: bool
    # Whether calls may suspend. If they never do, the pool need not shield them from cancellation.
    suspends: bool

    async def open(self) -> None:
        """Make the store ready for use; if it is, nothing happens."""

    async def close(self) -> None:
        """Write what is still to be written and let go of everything."""

    async def ping(self) -> None:
        """Return if the store answers; `StoreUnavailable` if not."""

    def tick(self) -> None:
        """Called about ten times a second while a pool is open: housekeeping, never more than a
        few milliseconds.
        """

    # --- the life of a turn

    async def accept(
        self,
        turn: Turn,
        *,
        owner: str,
        key: str | None = None,
        reject_busy: bool = False,
        with_state: bool = False,
    ) -> Accepted:
        """Keep a new turn, in order; make its session if it is new; claim the session if it is
        free.

        The turn is kept as it is: in state `running`, attempt 1, if it starts at once. An `owner`
        of "" claims nothing: the turn is for whoever claims the session, and all are nudged
        (`work`). A lease that is given is an object of its own, each time. A turn for a session
        that another holds is a letter in its inbox, and the holder is nudged. One with which the
        session is not given is kept as queued, attempt 0.

        With an idempotency `key` already used in the session: the earlier turn, or
        `IdempotencyMismatch` if it was used with another request. With `reject_busy`:
        `SessionBusy`, and nothing kept, if the session has a turn that has not ended.
        """

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """Add events to the session's log; with them the turn as it is now (started, paused, what
        it has used), and its checkpoint. Events that the log has already are left out. Whether
        another process watches the log; it is nudged.

        `LeaseLost` also if the store has lost what was written before these events.
        """

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        """End a turn in one step: its record, its last events, its agent's new state.

        Committing an ended turn again changes nothing. True: the session has no other unfinished
        turn, and its lease was released in the same step.
        """

    async def load(self, lease: Lease, agent: str, turn_id: str) -> AgentState:
        """The agent's state of the session; the checkpoint of this turn, if it has one."""

    async def find_key(self, key: SessionKey, idempotency_key: str) -> tuple[Turn, bytes] | None:
        """The turn that used the idempotency key, and the digest of its request."""

    # --- reading

    async def turn(self, turn_id: str) -> Turn | None:
        """The turn as it is now, from its id alone. Whose it is, the caller checks."""

    async def turns(self, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
        """The session's turns in the order of acceptance."""

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        """The session's log after a cursor (`START`: from its beginning), without waiting."""

    async def turn_start(self, turn_id: str) -> Cursor | None:
        """The cursor just before the turn's first event; None if the turn is not known."""

    async def messages(self, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
        """The session's transcript, oldest first."""

    # --- sessions

    async def create_session(self, key: SessionKey, info: SessionInfo) -> SessionInfo:
        """Make a session; `Conflict` if it exists."""

    async def session(self, key: SessionKey) -> SessionInfo | None:
        """The session, if it exists and has not outlived its `ttl_s`."""

    async def sessions(self, tenant: str, after: str | None, limit: int) -> Page[SessionInfo]:
        """The tenant's sessions, in the order of their making."""

    async def delete_session(self, key: SessionKey) -> bool:
        """Forget a session with all its turns; False if there was none. `SessionBusy` if it has a
        turn that has not ended.
        """

    async def fork_session(
        self, key: SessionKey, new: SessionKey, through_turn: str | None
    ) -> SessionInfo:
        """A new session with the transcript (and no agent's state) up to and including a turn
        (None: all of it). `NotFound`, `Conflict` if the new one exists.
        """

    # --- operation

    async def dead_letters(self, tenant: str | None, limit: int) -> Sequence[Turn]:
        """Turns that ended as dead letters, newest first."""
