"""The life of a turn in a Redis store: each call is one script, and one round trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pool.errors import Conflict, DeadLetter, Internal, NotFound, StoreUnavailable
from pool.events import Cursor, Event
from pool.store.base import Accepted, AgentState, Lease, SessionKey, StateChange
from pool.store.codec import encode_events, encode_said, encode_turn
from pool.store.redis_ledger import Ledger
from pool.store.redis_owners import RedisOwners
from pool.store.redis_part import (
    busy,
    lease_lost,
    mismatch,
    number_in,
    record_of,
    state_of,
)
from pool.store.redis_reads import RedisReads
from pool.store.redis_upkeep import Upkeep
from pool.turn import Turn, messages

# How often a batch is sent again without what the log has already.
_TRIES: Final = 3


class RedisTurns(RedisReads, RedisOwners):
    """The part of a Redis store that turns are run with."""

    _upkeep: Upkeep
    _ledger: Ledger

    async def accept(
        self,
        turn: Turn,
        *,
        owner: str,
        key: str | None = None,
        reject_busy: bool = False,
        with_state: bool = False,
    ) -> Accepted:
        """See `Store.accept`."""
        row: tuple[object, ...] = (turn.id, reject_busy, turn.agent if with_state else "")
        data: tuple[bytes, ...] = (encode_turn(turn),)
        if key:
            row, data = (*row, key, ""), (*data, turn.request.digest(turn.agent))
        accepted = await self._accept(turn, owner, row, data)
        if isinstance(accepted, str):
            # a key lives as long as the record of its turn, and that one's is gone
            accepted = await self._accept(turn, owner, (*row[:-1], accepted), data)
        if isinstance(accepted, str):
            raise StoreUnavailable("the idempotency key was used meanwhile; ask again")
        return accepted

    async def _accept(
        self, turn: Turn, owner: str, row: tuple[object, ...], data: Sequence[bytes]
    ) -> Accepted | str:
        """The answer; the id of a turn that used the key before, if it has no record any more."""
        key = SessionKey(turn.tenant, turn.session_id)
        names = self._keys.session(key)
        answer = await self._scripts.step(
            "accept",
            names,
            (owner, self._servers.since(names.partition), *row),
            *data,
            keys=(*names.listing, names.turn(turn.id), names.besides(turn.id)),
        )
        status = answer[0]
        if status == b"busy":
            raise busy(key.id, answer[1])
        _, epoch, whose, end_epoch, end_seq, found, *more = answer
        holder, end = whose.decode(), Cursor(end_epoch, end_seq)
        if status == b"used":
            return await self._used(turn, found, holder, end)
        if owner not in self._heart:
            await self._shown(owner)
        lease = Lease(key, owner, epoch) if epoch else None
        number = found
        if status == b"again":
            turn, number = record_of(found), number_in(found)
        elif lease is not None:
            if epoch < self._servers.since(names.partition):
                lease = await self._later(lease)
            self._servers.given(names.partition, lease.epoch)
        if lease is not None:
            self._ledger.took(lease)
        state, others = more
        state = None if state is None else state_of(state)
        return Accepted(turn, True, lease, holder, end, state, number, bool(others))

    async def _used(self, turn: Turn, used: bytes, holder: str, end: Cursor) -> Accepted | str:
        """The key was used before: by the same request, it is hoped."""
        digest, earlier_id = used[:16], used[16:].decode()
        if digest != turn.request.digest(turn.agent):
            raise mismatch(turn.session_id)
        earlier = await self.turn(earlier_id)
        return earlier_id if earlier is None else Accepted(earlier, False, None, holder, end)

    async def _later(self, lease: Lease) -> Lease:
        """The lease in a later epoch, as it goes on in one from before its server was lost: what
        was written in that may be missing now, and its readers must learn of it.
        """
        claim = await self._claim(lease.key, lease.owner)
        if claim is None:
            raise lease_lost(lease)
        return Lease(lease.key, lease.owner, claim[0])

    async def _claim(self, key: SessionKey, owner: str) -> Any:
        """Epoch, end of the log and ids of the unfinished turns, or None."""
        names = self._keys.session(key)
        return await self._scripts.step(
            "claim", names, (owner, self._servers.since(names.partition))
        )

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        """See `Store.append`. `Internal` if events are not dense, `Conflict` if the turn ended."""
        if turn is None and state is not None:
            raise Internal("a checkpoint belongs to a turn; give the store that turn with it")
        turn_id = turn.id if turn is not None else ""
        row: tuple[object, ...] = ()
        data: tuple[bytes, ...] = (encode_turn(turn) if turn is not None else b"",)
        if turn is not None and state is not None:
            row, data = (turn.agent, state.format, state.append), (*data, state.data)
        status, *answer = await self._write("append", lease, events, turn_id, (), row, data)
        if status == b"ended" and turn is not None:
            raise Conflict(f"turn {turn.id} has ended or is not of session {lease.key.id}")
        return bool(answer[0])

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        """See `Store.commit`. The state counts if the turn completed; else it stays as it was."""
        names = self._keys.session(lease.key)
        said = messages(turn)
        completed = turn.state == "completed"
        hook = turn.request.webhook is not None
        dead = turn.error is not None and turn.error.code == DeadLetter.code
        row: tuple[object, ...] = (turn.agent if completed else "",)
        data: tuple[bytes, ...] = (encode_turn(turn), encode_said(said) if said else b"")
        keys: list[str] = []
        if completed and state is not None:
            row = (*row, hook, "", state.format, state.append)
            data = (*data, state.data)
        elif hook or dead:
            row = (*row, hook, f"{turn.id}:{turn.tenant}" if dead else "")
        if hook:
            keys.append(f"{names.head}hooks")
        if dead:
            keys.append(f"{names.head}dead")
        status, *answer = await self._write("commit", lease, events, turn.id, keys, row, data)
        if status == b"unknown":
            raise NotFound(f"session {lease.key.id} has no turn {turn.id}")
        if status == b"ok" and answer[1]:
            self._upkeep.soon(lease.key)
        if answer[0]:
            self._ledger.let_go(lease)
        return bool(answer[0])

    async def load(self, lease: Lease, agent: str, turn_id: str) -> AgentState:
        """See `Store.load`. Without a state yet: format "", no data, and the whole transcript."""
        names = self._keys.session(lease.key)
        row = (lease.owner, lease.epoch, agent)
        keys = (names.besides(turn_id),)
        status, *answer = await self._scripts.step("load", names, row, keys=keys)
        if status == b"lost":
            raise lease_lost(lease)
        return state_of(answer[0])

    # --- the log

    async def _write(
        self,
        script: str,
        lease: Lease,
        events: Sequence[Event],
        turn_id: str,
        keys: Sequence[str],
        row: tuple[object, ...],
        data: tuple[bytes, ...],
    ) -> Any:
        """What a script that adds events answers; events that the log has already are left out."""
        names = self._keys.session(lease.key)
        for _ in range(_TRIES):
            starts = _starts(events, lease.epoch)
            start = starts.pop(turn_id, -1)
            of_turn = (names.turn(turn_id), names.besides(turn_id))
            status, *answer = await self._scripts.step(
                script,
                names,
                (
                    *(lease.owner, lease.epoch),
                    *((events[0].seq, events[-1].seq) if events else (0, 0)),
                    *(turn_id, start, tuple(starts.values())),
                    *row,
                ),
                encode_events(events) if events else b"",
                *data,
                keys=(*of_turn, *map(names.turn, starts), *keys),
            )
            if status in (b"lost", b"gap"):
                self._ledger.let_go(lease)
                raise lease_lost(lease)
            if status != b"behind":
                if lease.owner not in self._heart:
                    await self._shown(lease.owner)
                return status, *answer
            events = await self._unrepeated(lease, events, Cursor(*answer))
        raise StoreUnavailable(
            f"the log of session {lease.key.id} grew while it was written to; send again"
        )

    async def _unrepeated(
        self, lease: Lease, events: Sequence[Event], end: Cursor
    ) -> Sequence[Event]:
        """The events that a log which ends at `end` has not; `Internal` if it has others there."""
        count = min(len(events), end.seq - events[0].seq + 1)
        before = Cursor(lease.epoch, events[0].seq - 1)
        kept = {each.seq: each for each in (await self.events(lease.key, before, count)).events}
        for event in events[:count]:
            same = kept.get(event.seq, event)
            if (event.id, event.type, event.turn_id) != (same.id, same.type, same.turn_id):
                raise _not_dense(event, str(end))
        return events[count:]


def _starts(events: Sequence[Event], epoch: int) -> dict[str, int]:
    """For each turn the place before its first event; `Internal` if the events are not dense."""
    starts: dict[str, int] = {}
    seq = events[0].seq if events else 0
    for event in events:
        if event.seq != seq or event.epoch != epoch:
            raise _not_dense(event, f"{epoch}-{seq - 1}")
        if event.turn_id not in starts:
            starts[event.turn_id] = seq - 1
        seq += 1
    return starts


def _not_dense(event: Event, end: str) -> Internal:
    return Internal(
        f"event {event.id} ({event.type}) does not follow the session's log, which ends at {end}; "
        "who holds the lease must stamp events densely"
    )
