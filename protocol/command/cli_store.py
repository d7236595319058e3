"""The operator's command line: what a store has, whichever it is, and how to act on it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from protocol.command.cli_acts import Act, in_json, noting_it, on_existing, without_settings
from protocol.command.mistakes import mistakes, warnings

if TYPE_CHECKING:
    from pool.store.base import Store
    from protocol.command.audited import Notes


def _on_store(act: Act) -> Callable[..., None]:
    """Make a command of what only looks at a store that is there."""
    return on_existing(without_settings(act))


def _noted(act: Act) -> Callable[..., None]:
    """Make a command of what changes a store that is there: it is given the audit log."""
    return on_existing(noting_it(act))


_limit = click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many."
)
_tenant = click.option("--tenant", default="default", show_default=True, help="Whose it is.")
_any_tenant = click.option("--tenant", metavar="NAME", help="Only theirs [everybody's].")
_events = click.option("--events", is_flag=True, help="With all events that are still kept.")
_session = click.argument("session")
_turn = click.argument("turn")
_turns = click.argument("turns", metavar="TURN...", nargs=-1, required=True)


@click.group()
def sessions() -> None:
    """What sessions there are."""


@sessions.command("list")
@_any_tenant
@_limit
@in_json
@_on_store
async def _list_sessions(store: Store, tenant: str | None, limit: int, as_json: bool) -> int:
    """List sessions, as they were made."""
    from protocol.command import operate

    return await operate.list_sessions(store, tenant, limit, as_json=as_json)


@sessions.command("show")
@_session
@_tenant
@click.option("--messages", is_flag=True, help="With all that was said in it.")
@in_json
@_on_store
async def _show_session(
    store: Store, session: str, tenant: str, messages: bool, as_json: bool
) -> int:
    """Show a session."""
    from protocol.command import operate

    return await operate.show_session(
        store, tenant, session, with_messages=messages, as_json=as_json
    )


@sessions.command("delete")
@_session
@_tenant
@click.confirmation_option(prompt="Forget the session with all its turns?", help="Do not ask.")
@_noted
async def _delete_session(store: Store, notes: Notes, session: str, tenant: str) -> int:
    """Forget a session, with all its turns. Not while one of them has yet to end."""
    from protocol.command import operate

    return await operate.delete_session(store, notes, tenant, session)


@click.group()
def turns() -> None:
    """What became of turns."""


@turns.command("list")
@_session
@_tenant
@_limit
@in_json
@_on_store
async def _list_turns(store: Store, session: str, tenant: str, limit: int, as_json: bool) -> int:
    """List the turns of a session, as they were accepted."""
    from protocol.command import operate

    return await operate.list_turns(store, tenant, session, limit, as_json=as_json)


@turns.command("show")
@_turn
@_events
@in_json
@_on_store
async def _show_turn(store: Store, turn: str, events: bool, as_json: bool) -> int:
    """Show a turn."""
    from protocol.command import operate

    return await operate.show_turn(store, turn, with_events=events, as_json=as_json)


@turns.command("requeue")
@_turns
@_noted
async def _requeue_turns(store: Store, notes: Notes, turns: tuple[str, ...]) -> int:
    """Submit turns that failed, expired or were interrupted again, as new ones."""
    from protocol.command import operate

    return await operate.requeue_turns(store, notes, turns)


@click.group("dead-letters")
def dead_letters() -> None:
    """Turns that crashed their actor or process too often to be run again by themselves."""


@dead_letters.command("list")
@_any_tenant
@_limit
@in_json
@_on_store
async def _list_dead_letters(store: Store, tenant: str | None, limit: int, as_json: bool) -> int:
    """List dead letters, the newest first."""
    from protocol.command import operate

    return await operate.list_dead_letters(store, tenant, limit, as_json=as_json)


@dead_letters.command("show")
@_turn
@_events
@in_json
@_on_store
async def _show_dead_letter(store: Store, turn: str, events: bool, as_json: bool) -> int:
    """Show a dead letter."""
    from protocol.command import operate

    return await operate.show_dead_letter(store, turn, with_events=events, as_json=as_json)


@dead_letters.command("requeue")
@_turns
@_noted
async def _requeue_dead_letters(store: Store, notes: Notes, turns: tuple[str, ...]) -> int:
    """Submit dead letters again, as new turns, and list them no more."""
    from protocol.command import operate

    return await operate.requeue_dead_letters(store, notes, turns)


@dead_letters.command("delete")
@_turns
@_noted
async def _delete_dead_letters(store: Store, notes: Notes, turns: tuple[str, ...]) -> int:
    """List dead letters no more. The turns themselves stay in their sessions."""
    from protocol.command import operate

    return await operate.delete_dead_letters(store, notes, turns)


@click.command()
@click.option("--from", "source", metavar="URL", required=True, help="Where sessions are.")
@click.option("--to", "target", metavar="URL", required=True, help="Where they shall be.")
@click.option("--config", metavar="FILE", help="TOML [actorpool.toml, if there is one].")
def migrate(source: str, target: str, config: str | None) -> None:
    """Copy all sessions and their history from one store to another.

    Stop the servers on both first. What is in the target already is left as it is, so that the
    command can be repeated; the source is not changed.
    """
    from protocol.command.migrate import migrate as run
    from protocol.command.sources import server_settings

    with mistakes(), warnings():
        old, new = (
            server_settings(url, os.environ, named_by=option, file=config, directory=Path.cwd())
            for option, url in (("--from", source), ("--to", target))
        )
        code = asyncio.run(run(old.store, new.store, os.environ, audit=new.audit))
    sys.exit(code)
