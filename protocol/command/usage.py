"""What turns used, from a store that a server may be using."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date
from typing import Literal

import click

from pool.guard.usage import By, UsageBook
from pool.guard.usage_tables import NUMBERS, UsageTable, usage_csv, usage_json, usage_table
from pool.store.base import Store
from protocol.command.table import print_table

Form = Literal["table", "json", "csv"]


async def show(
    store: Store,
    *,
    first: date | None,
    last: date | None,
    by: Sequence[By],
    tenant: str | None,
    user: str | None,
    agent: str | None,
    form: Form,
) -> int:
    """Usage from a day (None: the first of the month) to another (None: today)."""
    book = UsageBook(store, wall=time.time)
    last = last or book.today()
    first = first or last.replace(day=1)
    found = await book.query(first, last, by, tenant=tenant, user=user, agent=agent)
    table = usage_table(found, by, first, last)
    if form == "json":
        click.echo(usage_json(table))
    elif form == "csv":
        click.echo(usage_csv(table), nl=False)
    elif table.usage:
        _print(table)
    else:
        click.echo(f"no turn ended from {first} to {last}")
    return 0


def _print(table: UsageTable) -> None:
    names = (*table.by, *NUMBERS)
    head = [name.upper().replace("_", " ") for name in names]
    print_table(head, [[_cell(getattr(each, name)) for name in names] for each in table.usage])


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.6f}" if isinstance(value, float) else str(value)
