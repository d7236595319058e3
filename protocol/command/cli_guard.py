"""The operator's command line for who may: API keys, and agents that are disabled."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from protocol.command.mistakes import mistakes, warnings

if TYPE_CHECKING:
    from pool.store.base import Store
    from protocol.command.audited import Notes
    from protocol.settings import AuditSettings

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Duration(click.ParamType[float]):
    """A time as 90s, 15m, 12h or 30d, in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds."""
        found = re.fullmatch(r"(\d{1,9})([smhd])", str(value))
        if found is None:
            self.fail("write a time as 90s, 15m, 12h or 30d", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


def _on_store(act: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """Make a command of what is done with the store of a server, whether one runs or will."""

    @click.option("--store", "url", metavar="URL", help="The server's store [as `serve` has it].")
    @click.option("--config", metavar="FILE", help="TOML [actorpool.toml, if there is one].")
    @wraps(act)
    def command(*, url: str | None, config: str | None, **options: Any) -> None:
        from protocol.command.keys import open_store
        from protocol.command.sources import server_settings

        async def run() -> int:
            async with open_store(settings.store, os.environ) as store:
                return await act(store, settings.audit, **options)

        with mistakes(), warnings():
            settings = server_settings(
                url, os.environ, named_by="--store", file=config, directory=Path.cwd()
            )
            code = asyncio.run(run())
        sys.exit(code)

    return command


def _noted(act: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """Make a command of what an operator has to answer for: it is given the audit log as well."""

    @wraps(act)
    async def noting_it(store: Store, settings: AuditSettings, **options: Any) -> int:
        from protocol.command.audited import noting

        async with noting(settings, store) as notes:
            return await act(store, notes, **options)

    return _on_store(noting_it)


def _listing(act: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., None]:
    """Make a command of what only looks."""

    @wraps(act)
    async def looking(store: Store, _: AuditSettings, **options: Any) -> int:
        return await act(store, **options)

    return _on_store(looking)


_json = click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")


@click.group()
def keys() -> None:
    """API keys: who may call, as what, and for how long."""


@keys.command("create")
@click.option("--tenant", default="default", show_default=True, help="Whose calls they are.")
@click.option("--user", metavar="NAME", default="", help="Who in the tenant [key-ID].")
@click.option(
    "--role", "roles", metavar="ROLE", multiple=True, help="user, operator, admin, others [user]."
)
@click.option("--name", metavar="TEXT", default="", help="What it is for.")
@click.option("--expires", type=_Duration(), metavar="30d", help="It counts so long [for ever].")
@_noted
async def _create_key(store: Store, notes: Notes, **options: Any) -> int:
    """Make a key. It is shown this once: the store has only its hash.

    The key is all that standard output gets: KEY=$(actorpool keys create).
    """
    from protocol.command import keys as run

    return await run.create(store, notes, **options)


@keys.command("list")
@_json
@_listing
async def _list_keys(store: Store, as_json: bool) -> int:
    """List all keys, by the part that is no secret."""
    from protocol.command import keys as run

    return await run.list_keys(store, as_json=as_json)


@keys.command("revoke")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@_noted
async def _revoke_keys(store: Store, notes: Notes, ids: tuple[str, ...]) -> int:
    """Withdraw keys: within seconds they count nowhere, and what is open with them is closed."""
    from protocol.command import keys as run

    return await run.revoke(store, notes, ids)


@click.group()
def agents() -> None:
    """The kill switch: agents that take no more turns, in every process of the store."""


@agents.command("disable")
@click.argument("name")
@click.option("--reason", metavar="TEXT", default="", help="Told to whoever is refused.")
@click.option("--cancel", is_flag=True, help="Also cancel the turns that it has.")
@_noted
async def _disable_agent(store: Store, notes: Notes, name: str, reason: str, cancel: bool) -> int:
    """Refuse an agent's new turns, everywhere within seconds."""
    from protocol.command import agents as run

    return await run.disable(store, notes, name, reason=reason, cancel=cancel)


@agents.command("enable")
@click.argument("name")
@_noted
async def _enable_agent(store: Store, notes: Notes, name: str) -> int:
    """Take an agent's turns again."""
    from protocol.command import agents as run

    return await run.enable(store, notes, name)


@agents.command("list")
@_json
@_listing
async def _list_agents(store: Store, as_json: bool) -> int:
    """List the agents that are disabled."""
    from protocol.command import agents as run

    return await run.list_disabled(store, as_json=as_json)
