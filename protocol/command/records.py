"""What an operator asks a store for: its sessions, their turns, what became of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, NamedTuple, TypeVar

from pool.errors import NotFound
from pool.events import Event
from pool.store.base import Page, SessionKey, Store
from pool.turn import Message, SessionInfo, Turn

T = TypeVar("T")

PAGE: Final = 500


class SessionOf(NamedTuple):
    """A session, and whose it is."""

    tenant: str
    info: SessionInfo


async def sessions(store: Store, tenant: str | None, limit: int) -> list[SessionOf]:
    """At most so many sessions of a tenant, or of all."""
    return await _first(limit, _each_session(store, tenant))


async def turns(store: Store, key: SessionKey, limit: int) -> list[Turn]:
    """At most so many turns of a session; `NotFound` if there is no such session."""
    await session(store, key)
    return await _first(limit, _each(lambda after, size: store.turns(key, after, size)))


async def messages(store: Store, key: SessionKey) -> list[Message]:
    """The whole transcript of a session."""
    return [each async for each in _each(lambda after, size: store.messages(key, after, size))]


async def session(store: Store, key: SessionKey) -> SessionOf:
    """A session; `NotFound` if there is none."""
    info = await store.session(key)
    if info is None:
        raise NotFound(f"there is no session {key.id} of tenant {key.tenant}")
    return SessionOf(key.tenant, info)


async def turn(store: Store, turn_id: str) -> Turn:
    """A turn; `NotFound` if there is none."""
    found = await store.turn(turn_id)
    if found is None:
        raise NotFound(f"there is no turn {turn_id}")
    return found


async def events(store: Store, turn: Turn) -> list[Event]:
    """What can be replayed of a turn's events."""
    key = SessionKey(turn.tenant, turn.session_id)
    after = await store.turn_start(turn.id)
    found: list[Event] = []
    while after is not None:
        page = await store.events(key, after, PAGE)
        for event in page.events:
            if event.turn_id == turn.id:
                found.append(event)
                if event.terminal:
                    return found
        after = page.events[-1].cursor if page.events else None
    return found


async def _each_session(store: Store, tenant: str | None) -> AsyncGenerator[SessionOf, None]:
    if tenant is not None:
        async for info in _each(lambda after, size: store.sessions(tenant, after, size)):
            yield SessionOf(tenant, info)
        return
    after: str | None = None
    while True:
        keys, after = await store.all_sessions(after, PAGE)
        for key in keys:
            # it may have gone in between
            found = await store.session(key)
            if found is not None:
                yield SessionOf(key.tenant, found)
        if after is None:
            return


async def _each(
    read: Callable[[str | None, int], Coroutine[Any, Any, Page[T]]],
) -> AsyncGenerator[T, None]:
    after: str | None = None
    while True:
        page = await read(after, PAGE)
        for each in page.items:
            yield each
        after = page.next
        if after is None:
            return


async def _first(limit: int, items: AsyncGenerator[T, None]) -> list[T]:
    found: list[T] = []
    async with aclosing(items):
        async for each in items:
            found.append(each)
            if len(found) == limit:
                break
    return found
