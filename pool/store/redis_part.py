"""What the parts of a Redis store have in common."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct as Layout
from typing import Any, Final, NamedTuple

from pool.errors import IdempotencyMismatch, LeaseLost, SessionBusy
from pool.events import Cursor
from pool.store.base import AgentState, Lease
from pool.store.codec import decode_said, decode_turn
from pool.store.limits import Retention
from pool.store.redis_keys import KeySpace, SessionNames
from pool.store.redis_scripts import Scripts
from pool.store.redis_servers import RedisServers
from pool.turn import Turn

# before a turn's record: what it is, the place before its first event (zeros: none), its number
_HEAD: Final = Layout(">cQQI")
# of a session: how many turns it has accepted, the end of its log, when it was used last
_SESSION: Final = Layout(">I16xQQQ")
HEAD_SIZE: Final = _HEAD.size
_PASSED_ON: Final = b"P"
_NOWHERE: Final = Cursor(0, 0)


class KeptSession(NamedTuple):
    """What readers need of what scripts/session.lua lays out."""

    accepted: int
    end: Cursor
    # when it was used last, in microseconds
    used: int


class RedisPart:
    """One part of a Redis store."""

    def __init__(
        self, servers: RedisServers, scripts: Scripts, keys: KeySpace, retention: Retention
    ) -> None:
        self._servers = servers
        self._scripts = scripts
        self._keys = keys
        self._retention = retention

    async def _turns_of(self, names: SessionNames, turn_ids: Sequence[str]) -> dict[str, bytes]:
        """What is kept of turns of one session, by id; those that are gone are left out."""
        kept = await self._scripts.command_all(
            [(names.partition, ("GET", names.turn(turn_id))) for turn_id in turn_ids]
        )
        pairs = zip(turn_ids, kept, strict=True)
        return {turn_id: data for turn_id, data in pairs if data is not None}


def head(turn: Turn, place: Cursor, number: int) -> bytes:
    """What stands before a turn's record."""
    return _HEAD.pack(b"E" if turn.ended else b"U", *place, number)


def place_in(data: bytes) -> Cursor | None:
    """The place before the turn's first event, if it has one."""
    _, epoch, seq, _ = _HEAD.unpack_from(data)
    return Cursor(epoch, seq) if (epoch, seq) != _NOWHERE else None


def number_in(data: bytes) -> int:
    """The turn's number among all that its session has accepted."""
    number: int = _HEAD.unpack_from(data)[3]
    return number


def record_of(data: bytes) -> Turn:
    """The turn that is kept so."""
    turn = decode_turn(data[HEAD_SIZE:])
    if data.startswith(_PASSED_ON):
        # who accepted it took for granted that it starts at once
        turn.state, turn.attempt = "queued", 0
    return turn


def session_of(data: bytes) -> KeptSession:
    """What is kept of a session in one piece."""
    accepted, end_epoch, end_seq, used = _SESSION.unpack_from(data)
    return KeptSession(accepted, Cursor(end_epoch, end_seq), used)


def state_of(answer: Any) -> AgentState:
    """An agent's state as the scripts answer it: version, format, parts, entries not seen."""
    version, format_, parts, entries = answer
    return AgentState(
        format_.decode(),
        b"".join(parts) if parts else None,
        int(version),
        tuple(message for entry in entries for message in decode_said(entry)),
    )


def lease_lost(lease: Lease) -> LeaseLost:
    """What a writer is told that does not hold the session any longer."""
    return LeaseLost(
        f"session {lease.key.id} is no longer held by {lease.owner} at epoch {lease.epoch}; "
        "another owner may have it: this write changed nothing"
    )


def busy(session_id: str, unfinished: int) -> SessionBusy:
    """What a caller is told that wanted the session for itself."""
    return SessionBusy(
        f"session {session_id} has {unfinished} turns that have not ended; "
        "wait for them or cancel them, or let the new turn queue or interrupt (if_busy)"
    )


def mismatch(session_id: str) -> IdempotencyMismatch:
    """What a caller is told that used an idempotency key for something else."""
    return IdempotencyMismatch(
        f"the idempotency key was used in session {session_id} with another request; "
        "use a new key for a new request"
    )
