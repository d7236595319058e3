"""Budgets of a server's configuration: how they stand in its store, and other limits for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import click
import msgspec
from msgspec import UNSET

from pool.guard.budget import Budget
from pool.guard.budget_changes import BudgetChanges
from pool.guard.budget_tables import BudgetRow, LimitRow, budget_row
from pool.guard.budgets import Budgets
from pool.store.base import Store
from protocol.command.audited import noting
from protocol.command.table import print_lines, print_table
from protocol.settings import Settings

_HEAD = ("BUDGET", "OF", "PERIOD", "LIMIT", "SPENT", "RESERVED", "%", "AT LIMIT")


async def list_budgets(
    store: Store, settings: Settings, *, tenant: str | None, user: str, as_json: bool
) -> int:
    """How they stand, in everybody's name who is known."""
    budgets, changes = _following(store, settings.budgets)
    await changes.refresh()
    accounts = await budgets.accounts(tenant, user, tuple(settings.agents))
    rows = [budget_row(each, changes.configured[each.budget.name]) for each in accounts]
    if as_json:
        print_lines(msgspec.json.encode(row).decode() for row in rows)
    else:
        print_table(_HEAD, [cells for row in rows for cells in _cells(row)])
    return 0


async def set_budget(
    store: Store, settings: Settings, name: str, *, tokens: int | None, usd: float | None
) -> int:
    """Give a budget other limits."""
    _, changes = _following(store, settings.budgets)
    async with noting(settings.audit, store) as notes:
        change = await changes.set(name, tokens=tokens, usd=usd)
        given = (("tokens", tokens), ("usd", usd))
        what = ", ".join(f"{unit} {amount:g}" for unit, amount in given if amount is not None)
        notes.done("set_budget", f"budget:{name}", reason=what)
    now = change.applied(changes.configured[name])
    click.echo(f"budget {name} is {_limits(now)} now; servers go by it within seconds")
    return 0


async def unset_budget(store: Store, settings: Settings, name: str) -> int:
    """Give a budget the limits of its configuration again."""
    _, changes = _following(store, settings.budgets)
    async with noting(settings.audit, store) as notes:
        if not await changes.unset(name):
            click.echo(f"actorpool: budget {name} is as it is configured", err=True)
            return 1
        notes.done("unset_budget", f"budget:{name}")
    click.echo(f"budget {name} is {_limits(changes.configured[name])} again, as configured")
    return 0


def _following(store: Store, configured: Sequence[Budget]) -> tuple[Budgets, BudgetChanges]:
    budgets = Budgets(configured, counters=store, wall=time.time)
    return budgets, BudgetChanges(configured, store, apply=budgets.replace)


def _limits(budget: Budget) -> str:
    amounts = [] if budget.tokens is None else [f"{budget.tokens} tokens"]
    if budget.usd is not None:
        amounts.append(f"{budget.usd:.6g} USD")
    return f"{' and '.join(amounts)} a {budget.period}"


def _cells(row: BudgetRow) -> Iterator[Sequence[str]]:
    whose = "each" if row.subject is None else row.subject or "all"
    for unit, limit in (("tokens", row.tokens), ("USD", row.usd)):
        if limit is not UNSET:
            percent = "-" if limit.percent is None else f"{limit.percent:g}"
            yield (
                *(row.name, whose, row.current or row.period, _limit(limit, unit)),
                *(_amount(limit.spent), _amount(limit.reserved), percent, row.at_limit),
            )


def _limit(limit: LimitRow, unit: str) -> str:
    changed = f" (configured: {_amount(limit.configured)})"
    return f"{_amount(limit.limit)} {unit}{changed if limit.limit != limit.configured else ''}"


def _amount(number: float | None) -> str:
    return "-" if number is None else f"{number:.12g}"
