"""Sessions that are carried into a memory store, or out of it."""

from __future__ import annotations

from bisect import bisect_left
from copy import copy
from itertools import islice
from math import inf

from msgspec.structs import replace

from pool.errors import DeadLetter, InvalidRequest
from pool.store.lease import Lease, SessionKey
from pool.store.listing import place_of
from pool.store.memory_log import EventLog
from pool.store.memory_part import MemoryPart
from pool.store.memory_session import SessionRecord, TurnEntry
from pool.store.memory_sessions import EVENT_BYTES, TURN_BYTES, key_of
from pool.store.memory_transcript import KeptState, Transcript, said
from pool.store.transfer import CarriedKey, CarriedSession, CarriedState
from pool.turn import Turn


class MemoryTransfer(MemoryPart):
    """The part of a memory store that an operator uses."""

    async def all_sessions(
        self, after: str | None, limit: int
    ) -> tuple[list[SessionKey], str | None]:
        """See `Transfer.all_sessions`. Tenants by name, their sessions as they were made."""
        now = self._clock()
        tenant, number = _place(after)
        found: list[tuple[SessionKey, int]] = []
        tenants = sorted(self._sessions.listings)
        for name in islice(tenants, bisect_left(tenants, tenant), None):
            listing = self._sessions.listings[name]
            for each, listed in listing.after(number if name == tenant else 0, len(listing)):
                key = key_of(listed)
                if self._sessions.info(key, now) is not None:
                    found.append((key, each))
                if len(found) > limit:
                    last, place = found[limit - 1]
                    return [key for key, _ in found[:limit]], f"{last.tenant}/{place}"
        return [key for key, _ in found], None

    async def carry_out(self, key: SessionKey) -> CarriedSession | None:
        """See `Transfer.carry_out`."""
        session = self._find(key)
        return None if session is None else _carried(session)

    async def carry_in(self, session: CarriedSession) -> bool:
        """See `Transfer.carry_in`. `StoreUnavailable` if the store is full and nobody is idle."""
        if self._find(session.key) is not None:
            return False
        record = self._sessions.make(session.key, self._clock())
        self._fill(record, session)
        size = sum(TURN_BYTES + len(turn.input) + 2 * len(turn.output) for turn in session.turns)
        size += sum(len(state.data) for state in session.states)
        self._sessions.grow(record, size + EVENT_BYTES * len(session.events))
        self._sessions.bound(record)
        if record.unfinished:
            self._offer(record)
        return True

    async def forget_dead_letter(self, turn_id: str) -> bool:
        """See `Transfer.forget_dead_letter`."""
        return self._sessions.dead_letters.pop(turn_id, turn_id) is None

    def _fill(self, record: SessionRecord, session: CarriedSession) -> None:
        info = session.info
        record.agent, record.metadata, record.ttl_s = info.agent, info.metadata, info.ttl_s
        record.created_at, record.updated_at = info.created_at, info.updated_at
        record.accepted = max(info.turns, len(session.turns))
        for turn, start in zip(session.turns, session.starts, strict=True):
            record.turns[turn.id] = TurnEntry(_own(turn), start, ended=turn.ended)
            self._sessions.index[turn.id] = record.name
            if turn.error is not None and turn.error.code == DeadLetter.code:
                self._sessions.dead_letters[turn.id] = None
        record.unfinished = len(record.unended())
        ttl_s = info.ttl_s or self._sessions.limits.session_ttl_s
        record.expires_at = inf if record.unfinished else info.updated_at + ttl_s
        if session.keys:
            record.keys = {each.key: (each.turn_id, each.digest) for each in session.keys}
        record.log = EventLog.carried(session.events, session.end)
        if session.end.epoch:
            # nobody's; the next holder's epoch is later
            record.lease = Lease(session.key, "", session.end.epoch)
        record.transcript = self._transcript(record, session)

    def _transcript(self, record: SessionRecord, session: CarriedSession) -> Transcript:
        transcript = Transcript()
        for messages in session.said:
            entry = record.turns.get(messages[0].turn_id)
            transcript.entries.append(tuple(messages) if entry is None else entry.turn)
        for state in session.states:
            seen = max(0, transcript.length - state.unseen)
            version = self._sessions.next_version()
            transcript.states = transcript.states or {}
            transcript.states[state.agent] = KeptState(state.format, [state.data], version, seen)
        return transcript


def _carried(session: SessionRecord) -> CarriedSession:
    starts = session.log.starts()
    transcript = session.transcript
    return CarriedSession(
        key=session.key,
        info=session.info,
        turns=[_own(entry.turn) for entry in session.turns.values()],
        starts=[starts.get(turn_id, entry.after) for turn_id, entry in session.turns.items()],
        keys=[CarriedKey(key, *used) for key, used in (session.keys or {}).items()],
        said=[said(entry) for entry in transcript.entries],
        states=[
            CarriedState(
                agent,
                state.format,
                state.data(),
                min(transcript.length - state.seen, len(transcript.entries)),
            )
            for agent, state in (transcript.states or {}).items()
        ],
        events=list(session.log.events),
        end=session.log.end,
    )


def _own(turn: Turn) -> Turn:
    """The turn as an object of its own: who runs one changes it."""
    return turn if turn.ended else replace(turn, usage=copy(turn.usage))


def _place(after: str | None) -> tuple[str, int]:
    if after is None:
        return "", 0
    tenant, slash, number = after.rpartition("/")
    if not slash:
        raise InvalidRequest("this is no cursor of this listing; give none", field="cursor")
    return tenant, place_of(number)
