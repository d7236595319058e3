"""The operator's command line for what turns cost: usage and budgets."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from protocol.command.cli_acts import in_json, listing, on_store

if TYPE_CHECKING:
    from pool.store.base import Store
    from protocol.settings import Settings

_PROPERTIES = ("day", "tenant", "user", "agent", "model")


class _Properties(click.ParamType[tuple[str, ...]]):
    """Properties, separated by commas."""

    name = "properties"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Each once, in their order."""
        if isinstance(value, tuple):
            return value
        found = tuple(dict.fromkeys(filter(None, str(value).split(","))))
        for each in found:
            if each not in _PROPERTIES:
                self.fail(f"{each!r} is none of {', '.join(_PROPERTIES)}", param, ctx)
        return found


_day = click.DateTime(formats=["%Y-%m-%d"])


@click.command("usage")
@click.option("--from", "first", type=_day, metavar="DAY", help="In UTC [first of the month].")
@click.option("--to", "last", type=_day, metavar="DAY", help="Included [today].")
@click.option(
    "--by", type=_Properties(), default="day", show_default=True, help=",".join(_PROPERTIES)
)
@click.option("--tenant", metavar="NAME", help="Only theirs [everybody's].")
@click.option("--user", metavar="NAME", help="Only theirs.")
@click.option("--agent", metavar="NAME", help="Only its turns.")
@click.option("--json", "form", flag_value="json", help="One JSON object, as GET /v1/usage has it.")
@click.option("--csv", "form", flag_value="csv", help="A table for a spreadsheet.")
@listing
async def usage(
    store: Store,
    first: datetime | None,
    last: datetime | None,
    form: Any,
    **options: Any,
) -> int:
    """What turns used that have ended: tokens, calls, cost, by day or what else is asked for."""
    from protocol.command import usage as run

    return await run.show(
        store,
        first=None if first is None else first.date(),
        last=None if last is None else last.date(),
        form=form or "table",
        **options,
    )


@click.group()
def budgets() -> None:
    """What may be spent, and what is: of the budgets in the configuration."""


@budgets.command("list")
@click.option("--tenant", metavar="NAME", help="Theirs; without it, what has a name of its own.")
@click.option("--user", metavar="NAME", default="", help="Of that tenant.")
@in_json
@on_store
async def _list_budgets(store: Store, settings: Settings, **options: Any) -> int:
    """List budgets, and how they stand in this period."""
    from protocol.command import budgets as run

    return await run.list_budgets(store, settings, **options)


@budgets.command("set")
@click.argument("name")
@click.option("--tokens", type=int, metavar="NUMBER", help="Input and output together.")
@click.option("--usd", type=float, metavar="AMOUNT", help="In US dollars.")
@on_store
async def _set_budget(store: Store, settings: Settings, name: str, **options: Any) -> int:
    """Give a budget other limits, in every server of the store within seconds."""
    from protocol.command import budgets as run

    return await run.set_budget(store, settings, name, **options)


@budgets.command("unset")
@click.argument("name")
@on_store
async def _unset_budget(store: Store, settings: Settings, name: str) -> int:
    """Give a budget the limits of its configuration again."""
    from protocol.command import budgets as run

    return await run.unset_budget(store, settings, name)
