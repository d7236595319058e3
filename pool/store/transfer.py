"""Sessions as they are carried from one store to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from pool.events import Cursor, Event
from pool.store.lease import SessionKey
from pool.turn import Message, SessionInfo, Turn


class CarriedState(Struct, frozen=True):
    """An agent's state of a session; `unseen` is how many of the session's last transcript entries
    (one a turn) it has not seen.
    """

    agent: str
    format: str
    data: bytes
    unseen: int


class CarriedKey(Struct, frozen=True):
    """An idempotency key, the turn that used it, and the digest of its request."""

    key: str
    turn_id: str
    digest: bytes


class CarriedSession(Struct, frozen=True, kw_only=True):
    """A session with its history, as plain values.

    `starts`: for each turn the place before its first event. `said`: the transcript, an entry of
    one or two messages a turn. `events` are all that can be replayed; `end` is the log's end.
    Checkpoints and inboxes are not carried: an unfinished turn starts anew.
    """

    key: SessionKey
    info: SessionInfo
    turns: Sequence[Turn]
    starts: Sequence[int]
    keys: Sequence[CarriedKey]
    said: Sequence[Sequence[Message]]
    states: Sequence[CarriedState]
    events: Sequence[Event]
    end: Cursor


class Transfer(Protocol):
    """The part of a store that an operator uses."""

    async def all_sessions(
        self, after: str | None, limit: int
    ) -> tuple[list[SessionKey], str | None]:
        """Names of the sessions of all tenants, and where the next part begins (None: the end)."""

    async def carry_out(self, key: SessionKey) -> CarriedSession | None:
        """A session with its history; None if there is none. Changes nothing."""

    async def carry_in(self, session: CarriedSession) -> bool:
        """Keep a session that was carried out of another store, in one step; unfinished turns are
        orphans here. False, and nothing is changed, if there is one of that name already.
        """

    async def forget_dead_letter(self, turn_id: str) -> bool:
        """List the turn as a dead letter no more (its record stays); False if it was not."""
