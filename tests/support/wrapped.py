"""A store around a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pool.events import Cursor, Event
from pool.store.base import (
    Accepted,
    AgentState,
    EventPage,
    Lease,
    Page,
    SessionKey,
    StateChange,
    Store,
)
from pool.store.cabinet import Document
from pool.store.counters import Change, Counted
from pool.store.outbox import Delivery
from pool.store.sharing import Claim, Inbox, Nudge, Replica, Signal
from pool.store.transfer import CarriedSession
from pool.turn import Message, SessionInfo, Turn

T = TypeVar("T")


class WrappedStore:
    """Does what the wrapped store does; a subclass says what happens around each call."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.durable = store.durable
        self.suspends = store.suspends
        self.shared = store.shared
        self.lease_s = store.lease_s

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Every call comes through here, with the name of its method."""
        return await call()

    async def open(self) -> None:
        await self.around("open", self.store.open)

    async def close(self) -> None:
        await self.around("close", self.store.close)

    async def ping(self) -> None:
        await self.around("ping", self.store.ping)

    def tick(self) -> None:
        self.store.tick()

    async def accept(
        self,
        turn: Turn,
        *,
        owner: str,
        key: str | None = None,
        reject_busy: bool = False,
        with_state: bool = False,
    ) -> Accepted:
        return await self.around(
            "accept",
            lambda: self.store.accept(
                turn, owner=owner, key=key, reject_busy=reject_busy, with_state=with_state
            ),
        )

    async def append(
        self,
        lease: Lease,
        events: Sequence[Event],
        turn: Turn | None = None,
        state: StateChange | None = None,
    ) -> bool:
        return await self.around("append", lambda: self.store.append(lease, events, turn, state))

    async def commit(
        self, lease: Lease, turn: Turn, events: Sequence[Event], state: StateChange | None = None
    ) -> bool:
        return await self.around("commit", lambda: self.store.commit(lease, turn, events, state))

    async def load(self, lease: Lease, agent: str, turn_id: str) -> AgentState:
        return await self.around("load", lambda: self.store.load(lease, agent, turn_id))

    async def find_key(self, key: SessionKey, idempotency_key: str) -> tuple[Turn, bytes] | None:
        return await self.around("find_key", lambda: self.store.find_key(key, idempotency_key))

    async def turn(self, turn_id: str) -> Turn | None:
        return await self.around("turn", lambda: self.store.turn(turn_id))

    async def turns(self, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
        return await self.around("turns", lambda: self.store.turns(key, after, limit))

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        return await self.around("events", lambda: self.store.events(key, after, limit))

    async def turn_start(self, turn_id: str) -> Cursor | None:
        return await self.around("turn_start", lambda: self.store.turn_start(turn_id))

    async def messages(self, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
        return await self.around("messages", lambda: self.store.messages(key, after, limit))

    async def create_session(self, key: SessionKey, info: SessionInfo) -> SessionInfo:
        return await self.around("create_session", lambda: self.store.create_session(key, info))

    async def session(self, key: SessionKey) -> SessionInfo | None:
        return await self.around("session", lambda: self.store.session(key))

    async def sessions(self, tenant: str, after: str | None, limit: int) -> Page[SessionInfo]:
        return await self.around("sessions", lambda: self.store.sessions(tenant, after, limit))

    async def delete_session(self, key: SessionKey) -> bool:
        return await self.around("delete_session", lambda: self.store.delete_session(key))

    async def fork_session(
        self, key: SessionKey, new: SessionKey, through_turn: str | None
    ) -> SessionInfo:
        return await self.around(
            "fork_session", lambda: self.store.fork_session(key, new, through_turn)
        )

    async def dead_letters(self, tenant: str | None, limit: int) -> Sequence[Turn]:
        return await self.around("dead_letters", lambda: self.store.dead_letters(tenant, limit))

    # --- several processes

    async def join(self, owner: str, nudged: Callable[[Nudge], None]) -> None:
        await self.around("join", lambda: self.store.join(owner, nudged))

    async def leave(self, owner: str) -> None:
        await self.around("leave", lambda: self.store.leave(owner))

    def announce(self, owner: str, status: bytes) -> None:
        self.store.announce(owner, status)

    async def replicas(self) -> Sequence[Replica]:
        return await self.around("replicas", self.store.replicas)

    async def claim(self, key: SessionKey, owner: str) -> Claim | None:
        return await self.around("claim", lambda: self.store.claim(key, owner))

    async def release(self, lease: Lease) -> None:
        await self.around("release", lambda: self.store.release(lease))

    async def orphans(self, limit: int) -> Sequence[SessionKey]:
        return await self.around("orphans", lambda: self.store.orphans(limit))

    async def signal(self, key: SessionKey, signal: Signal) -> bool:
        return await self.around("signal", lambda: self.store.signal(key, signal))

    async def inbox(self, lease: Lease, after: str) -> Inbox:
        return await self.around("inbox", lambda: self.store.inbox(lease, after))

    async def watch(self, key: SessionKey, owner: str) -> Cursor | None:
        return await self.around("watch", lambda: self.store.watch(key, owner))

    async def unwatch(self, key: SessionKey, owner: str) -> None:
        await self.around("unwatch", lambda: self.store.unwatch(key, owner))

    # --- webhooks, and what an operator does

    async def take_deliveries(self, limit: int, hold_s: float) -> Sequence[Delivery]:
        return await self.around(
            "take_deliveries", lambda: self.store.take_deliveries(limit, hold_s)
        )

    async def put_off(self, turn_id: str, delay_s: float) -> None:
        await self.around("put_off", lambda: self.store.put_off(turn_id, delay_s))

    async def settle(self, turn_id: str) -> None:
        await self.around("settle", lambda: self.store.settle(turn_id))

    async def all_sessions(
        self, after: str | None, limit: int
    ) -> tuple[list[SessionKey], str | None]:
        return await self.around("all_sessions", lambda: self.store.all_sessions(after, limit))

    async def carry_out(self, key: SessionKey) -> CarriedSession | None:
        return await self.around("carry_out", lambda: self.store.carry_out(key))

    async def carry_in(self, session: CarriedSession) -> bool:
        return await self.around("carry_in", lambda: self.store.carry_in(session))

    async def forget_dead_letter(self, turn_id: str) -> bool:
        return await self.around(
            "forget_dead_letter", lambda: self.store.forget_dead_letter(turn_id)
        )

    # --- documents and counters

    async def put(self, kind: str, documents: Sequence[Document]) -> None:
        await self.around("put", lambda: self.store.put(kind, documents))

    async def replace(self, kind: str, before: bytes | None, document: Document) -> bool:
        return await self.around("replace", lambda: self.store.replace(kind, before, document))

    async def get(self, kind: str, id: str) -> bytes | None:  # noqa: A002 - the word of the protocol
        return await self.around("get", lambda: self.store.get(kind, id))

    async def documents(
        self, kind: str, after: str | None, limit: int
    ) -> tuple[list[Document], str | None]:
        return await self.around("documents", lambda: self.store.documents(kind, after, limit))

    async def remove(self, kind: str, id: str) -> bool:  # noqa: A002
        return await self.around("remove", lambda: self.store.remove(kind, id))

    async def changes(self, kind: str) -> int:
        return await self.around("changes", lambda: self.store.changes(kind))

    async def count(self, changes: Sequence[Change]) -> Counted:
        return await self.around("count", lambda: self.store.count(changes))

    async def counts(self, names: Sequence[str]) -> Sequence[int]:
        return await self.around("counts", lambda: self.store.counts(names))
