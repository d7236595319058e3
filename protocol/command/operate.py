"""What the operator's commands do with an open store, and print. Each returns the exit code."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import click

from pool.errors import NotFound, PoolError
from pool.ids import check_id
from pool.store.base import SessionKey, Store
from pool.turn import Turn
from protocol.command import records, views
from protocol.command.audited import Notes
from protocol.command.requeue import dead_letter, requeue
from protocol.command.table import print_lines, print_table
from protocol.command.views import View

T = TypeVar("T")


async def list_sessions(store: Store, tenant: str | None, limit: int, *, as_json: bool) -> int:
    """Sessions of a tenant, or of all."""
    if tenant is not None:
        check_id(tenant, "tenant")
    found = await records.sessions(store, tenant, limit + 1)
    return _print(views.SESSIONS, found, limit, as_json=as_json)


async def list_turns(store: Store, tenant: str, session: str, limit: int, *, as_json: bool) -> int:
    """Turns of a session."""
    found = await records.turns(store, _key(tenant, session), limit + 1)
    return _print(views.TURNS, found, limit, as_json=as_json)


async def list_dead_letters(store: Store, tenant: str | None, limit: int, *, as_json: bool) -> int:
    """Dead letters of a tenant, or of all."""
    if tenant is not None:
        check_id(tenant, "tenant")
    found = await store.dead_letters(tenant, limit + 1)
    return _print(views.DEAD_LETTERS, found, limit, as_json=as_json)


async def show_session(
    store: Store, tenant: str, session: str, *, with_messages: bool, as_json: bool
) -> int:
    """A session, and its transcript if asked for."""
    key = _key(tenant, session)
    plain = views.session_object(await records.session(store, key))
    said = await records.messages(store, key) if with_messages else []
    if as_json:
        more = {"messages": list(map(views.message_object, said))} if with_messages else {}
        print_lines([views.as_json({**plain, **more})])
    else:
        print_lines(views.as_text(plain))
        print_lines(views.transcript(said))
    return 0


async def show_turn(store: Store, turn_id: str, *, with_events: bool, as_json: bool) -> int:
    """A turn, and its events if asked for."""
    turn = await records.turn(store, check_id(turn_id, "turn"))
    return await _show_turn(store, turn, with_events=with_events, as_json=as_json)


async def show_dead_letter(store: Store, turn_id: str, *, with_events: bool, as_json: bool) -> int:
    """A turn that is a dead letter."""
    turn = await dead_letter(store, check_id(turn_id, "turn"))
    return await _show_turn(store, turn, with_events=with_events, as_json=as_json)


async def requeue_turns(store: Store, notes: Notes, turn_ids: Iterable[str]) -> int:
    """Submit turns again."""
    return await _each(turn_ids, lambda each: _requeue(store, notes, records.turn(store, each)))


async def requeue_dead_letters(store: Store, notes: Notes, turn_ids: Iterable[str]) -> int:
    """Submit dead letters again."""
    return await _each(turn_ids, lambda each: _requeue(store, notes, dead_letter(store, each)))


async def delete_dead_letters(store: Store, notes: Notes, turn_ids: Iterable[str]) -> int:
    """List dead letters no more."""

    async def forget(turn_id: str) -> str:
        if not await store.forget_dead_letter(turn_id):
            raise NotFound(f"there is no dead letter {turn_id}")
        notes.done("delete_dead_letter", f"turn:{turn_id}")
        return f"{turn_id} is no longer listed"

    return await _each(turn_ids, forget)


async def delete_session(store: Store, notes: Notes, tenant: str, session: str) -> int:
    """Forget a session; `SessionBusy` if it has a turn that has not ended."""
    if not await store.delete_session(_key(tenant, session)):
        raise NotFound(f"there is no session {session} of tenant {tenant}")
    notes.done("delete_session", f"session:{session} tenant:{tenant}")
    print_lines([f"session {session} of tenant {tenant} is forgotten"])
    return 0


async def _show_turn(store: Store, turn: Turn, *, with_events: bool, as_json: bool) -> int:
    plain = views.turn_object(turn)
    events = await records.events(store, turn) if with_events else []
    if as_json:
        more = {"events": list(map(views.event_object, events))} if with_events else {}
        print_lines([views.as_json({**plain, **more})])
    else:
        print_lines(views.as_text(plain))
        print_lines(views.log(events))
    return 0


async def _requeue(store: Store, notes: Notes, finding: Coroutine[Any, Any, Turn]) -> str:
    old = await finding
    turn, new = await requeue(store, old)
    notes.done("requeue_turn", f"turn:{old.id} tenant:{old.tenant}", reason=f"as {turn.id}")
    return f"{old.id} {'goes' if new else 'went'} again as {turn.id}, session {turn.session_id}"


async def _each(turn_ids: Iterable[str], act: Callable[[str], Coroutine[Any, Any, str]]) -> int:
    """Act on each one and say so; what is refused does not keep the others from it."""
    code = 0
    for turn_id in turn_ids:
        try:
            print_lines([await act(check_id(turn_id, "turn"))])
        except PoolError as error:
            click.echo(f"actorpool: {error}", err=True)
            code = 1
    return code


def _print(view: View[T], found: Sequence[T], limit: int, *, as_json: bool) -> int:
    shown = found[:limit]
    if as_json:
        print_lines(views.as_json(view.plain(each)) for each in shown)
    else:
        print_table(view.head, [view.row(each) for each in shown])
    if len(found) > limit:
        click.echo(f"[only {limit} are shown; --limit shows more]", err=True)
    return 0


def _key(tenant: str, session: str) -> SessionKey:
    return SessionKey(check_id(tenant, "tenant"), check_id(session, "session"))
