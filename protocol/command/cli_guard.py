"""The operator's command line for who may: API keys, and agents that are disabled."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from protocol.command.cli_acts import in_json, listing, noted, urgent

if TYPE_CHECKING:
    from pool.store.base import Store
    from protocol.command.audited import Notes

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
@noted
async def _create_key(store: Store, notes: Notes, **options: Any) -> int:
    """Make a key. It is shown this once: the store has only its hash.

    The key is all that standard output gets: KEY=$(actorpool keys create).
    """
    from protocol.command import keys as run

    return await run.create(store, notes, **options)


@keys.command("list")
@in_json
@listing
async def _list_keys(store: Store, as_json: bool) -> int:
    """List all keys, by the part that is no secret."""
    from protocol.command import keys as run

    return await run.list_keys(store, as_json=as_json)


@keys.command("revoke")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@urgent
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
@urgent
async def _disable_agent(store: Store, notes: Notes, name: str, reason: str, cancel: bool) -> int:
    """Refuse an agent's new turns, everywhere within seconds."""
    from protocol.command import agents as run

    return await run.disable(store, notes, name, reason=reason, cancel=cancel)


@agents.command("enable")
@click.argument("name")
@noted
async def _enable_agent(store: Store, notes: Notes, name: str) -> int:
    """Take an agent's turns again."""
    from protocol.command import agents as run

    return await run.enable(store, notes, name)


@agents.command("list")
@in_json
@listing
async def _list_agents(store: Store, as_json: bool) -> int:
    """List the agents that are disabled."""
    from protocol.command import agents as run

    return await run.list_disabled(store, as_json=as_json)
