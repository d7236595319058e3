"""Budgets and how they stand, as callers and operators are told. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import UNSET, Struct, UnsetType

from pool.guard.budget import AtLimit, Budget, Every, Scope, Unit
from pool.guard.budgets import Account, Standing
from pool.guard.prices import usd_of


class LimitRow(Struct, frozen=True, kw_only=True):
    """A limit in tokens or US dollars: as it is, as it is `configured`, and how it stands in this
    period (null: a limit for single turns, or nobody was named). `reserved` is set aside for turns
    that run, `percent` of the limit is spent.
    """

    limit: float
    configured: float
    spent: float | None = None
    reserved: float | None = None
    percent: float | None = None


class BudgetRow(Struct, frozen=True, kw_only=True):
    """A budget in somebody's name: a tenant's, a `tenant/user`'s, an agent's, or "" for all (null:
    each tenant or user has one of its own). `current` is the period that is counted in now.
    """

    name: str
    scope: Scope
    subject: str | None
    period: Every
    current: str | None = None
    ends_at: datetime | None = None
    at_limit: AtLimit
    tokens: LimitRow | UnsetType = UNSET
    usd: LimitRow | UnsetType = UNSET


def budget_row(account: Account, configured: Budget) -> BudgetRow:
    """A budget as it stands; `configured` is the same one without what operators have changed."""
    budget = account.budget
    span = account.standing[0].line.span if account.standing else None
    return BudgetRow(
        name=budget.name,
        scope=budget.scope,
        subject=account.subject,
        period=budget.period,
        current=None if span is None else span.name,
        ends_at=None if span is None else datetime.fromtimestamp(span.ends, UTC),
        at_limit=budget.at_limit,
        tokens=_limit_row(account, configured, "tokens"),
        usd=_limit_row(account, configured, "micro"),
    )


def _limit_row(account: Account, configured: Budget, unit: Unit) -> LimitRow | UnsetType:
    limit, before = account.budget.limit(unit), configured.limit(unit)
    if limit is None or before is None:
        return UNSET
    stands = next((each for each in account.standing if each.line.unit == unit), None)
    if stands is None:
        return LimitRow(limit=_told(unit, limit), configured=_told(unit, before))
    return LimitRow(
        limit=_told(unit, limit),
        configured=_told(unit, before),
        spent=_told(unit, stands.spent),
        reserved=_told(unit, stands.reserved),
        percent=_percent(stands),
    )


def _told(unit: Unit, amount: int) -> float:
    return amount if unit == "tokens" else usd_of(amount)


def _percent(stands: Standing) -> float:
    return round(100 * stands.spent / stands.line.limit, 1)
