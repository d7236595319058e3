"""Budgets while the server runs: how they stand, and other limits for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from pool.guard.budget_changes import TOKENS_MAX, USD_MAX, USD_MIN
from pool.guard.budget_tables import BudgetRow, budget_row
from protocol.http.reply import Answer, Reply, json
from protocol.http.usage import Tenant, whose

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server


class BudgetsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose: a tenant's (`*`: whoever's), and one user's of it (default: the caller's)."""

    tenant: Tenant | UnsetType = UNSET
    user: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET


class BudgetRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Other limits of a budget; what is left out stays as it is."""

    tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | UnsetType = UNSET
    usd: Annotated[float, Meta(ge=USD_MIN, le=USD_MAX)] | UnsetType = UNSET


class BudgetsBody(Struct, frozen=True):
    """Budgets, each in every name that was asked about."""

    budgets: list[BudgetRow]


_SOME: Final = {"anyOf": [{"required": ["tokens"]}, {"required": ["usd"]}]}
ChangeBody = Annotated[BudgetRequest, Meta(extra_json_schema=_SOME)]


async def budgets(server: Server, request: Request) -> Answer:
    """`GET /v1/budgets`"""
    asked: BudgetsQuery = request.options
    user = request.principal.user if asked.user is UNSET else asked.user
    return _told(await _rows(server, whose(server, request, asked.tenant), user))


async def change(server: Server, request: Request) -> Answer:
    """`PATCH /v1/budgets/{budget}`"""
    asked: BudgetRequest = request.body
    name = request.params["budget"]
    await server.pool.ledger.budget_changes.set(
        name,
        tokens=None if asked.tokens is UNSET else asked.tokens,
        usd=None if asked.usd is UNSET else asked.usd,
    )
    given = {"tokens": asked.tokens, "usd": asked.usd}.items()
    what = ", ".join(f"{unit} {number}" for unit, number in given if number is not UNSET)
    _note(server, request, "admin.set_budget", name, what)
    tenant, user = request.principal.tenant, request.principal.user
    # of another tenant's it is told too: an admin may ask about all of them
    rows = await _rows(server, tenant, user, name) or await _rows(server, None, user, name)
    return _told(rows)


async def reset(server: Server, request: Request) -> Answer:
    """`DELETE /v1/budgets/{budget}`"""
    name = request.params["budget"]
    if await server.pool.ledger.budget_changes.unset(name):
        _note(server, request, "admin.unset_budget", name, "")
    return Reply(204)


async def _rows(
    server: Server, tenant: str | None, user: str, only: str | None = None
) -> list[BudgetRow]:
    ledger = server.pool.ledger
    accounts = await ledger.budgets.accounts(tenant, user, tuple(server.pool.specs))
    configured = ledger.budget_changes.configured
    return [
        budget_row(account, configured[account.budget.name])
        for account in accounts
        if only in (None, account.budget.name)
    ]


def _told(rows: list[BudgetRow]) -> Answer:
    return json(200, msgspec.json.encode(BudgetsBody(rows)))


def _note(server: Server, request: Request, action: str, name: str, what: str) -> None:
    audit = server.pool.audit
    if audit is not None:
        who, request_id = request.principal, request.request_id
        audit.record(action, "done", who, f"budget:{name}", request_id, reason=what)
