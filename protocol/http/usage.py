"""What was used, and by whom: for operators of a tenant, and for each user of their own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

from msgspec import UNSET, Meta, Struct, UnsetType

from pool.guard.ledger import micro_of
from pool.guard.usage import By, Totals, numbers_of
from pool.guard.usage_tables import (
    UsageTable,
    session_table,
    usage_csv,
    usage_json,
    usage_table,
)
from pool.store.base import SessionKey
from pool.turn import Id
from protocol import preferences
from protocol.http.reply import Answer, Reply, json
from protocol.refusals import forbidden

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server

# What an admin writes to ask about all tenants.
ALL: Final = "*"
_PAGE: Final = 100
_PROPERTIES: Final = "(day|tenant|user|agent|model)"
_CSV: Final = f"{preferences.CSV}; charset=utf-8; header=present"

Properties = Annotated[str, Meta(pattern=rf"^({_PROPERTIES}(,{_PROPERTIES}){{0,9}})?$(?!\n)")]
Format = Literal["json", "csv"]
Tenant = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_-]{1,64}|\*)$(?!\n)")]


class UsageQuery(
    Struct, frozen=True, forbid_unknown_fields=True, rename={"first": "from", "last": "to"}
):
    """From a day to another, both included and in UTC (default: this month so far), added up `by`
    properties, separated by commas. `tenant` (`*`: all), `user` and `agent`: only theirs.
    """

    first: date | UnsetType = UNSET
    last: date | UnsetType = UNSET
    by: Properties | UnsetType = UNSET
    tenant: Tenant | UnsetType = UNSET
    user: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    agent: Id | UnsetType = UNSET
    format: Format | UnsetType = UNSET


class FormatQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`format`: goes before what `Accept` says."""

    format: Format | UnsetType = UNSET


async def usage(server: Server, request: Request) -> Answer:
    """`GET /v1/usage`"""
    asked: UsageQuery = request.options
    book = server.pool.ledger.usage
    last = asked.last or book.today()
    first = asked.first or last.replace(day=1)
    by = _properties("day" if asked.by is UNSET else asked.by)
    found = await book.query(
        first,
        last,
        by,
        tenant=whose(server, request, asked.tenant),
        user=_user(server, request, asked.user),
        agent=asked.agent or None,
    )
    return _answer(request, usage_table(found, by, first, last), asked.format)


async def of_session(server: Server, request: Request) -> Answer:
    """`GET /v1/sessions/{session_id}/usage`"""
    session_id, principal = request.params["session_id"], request.principal
    # of another tenant it is not there
    await server.pool.session(session_id, principal=principal)
    key = SessionKey(principal.tenant, session_id)
    totals = Totals()
    after: str | None = None
    while True:
        page = await server.pool.store.turns(key, after, _PAGE)
        for turn in page.items:
            if turn.ended:
                totals.add(numbers_of(turn.usage, micro_of(turn.usage)))
        after = page.next
        if after is None:
            break
    return _answer(request, session_table(session_id, totals), request.options.format)


def whose(server: Server, request: Request, tenant: str | UnsetType) -> str | None:
    """The tenant that a caller asks about (None: all of them); `Forbidden` if it may not, which the
    audit log is told.
    """
    principal = request.principal
    if tenant is UNSET or tenant == principal.tenant:
        return principal.tenant
    if "admin" not in principal.roles:
        detail = "to ask about another tenant takes the role admin"
        raise forbidden(server.pool.audit, request, request.path, detail)
    return None if tenant == ALL else tenant


def _user(server: Server, request: Request, asked: str | UnsetType) -> str | None:
    """The user that a caller asks about (None: all of the tenant); `Forbidden` if it may not."""
    principal = request.principal
    if "operator" in principal.roles:
        return None if asked is UNSET else asked
    if asked not in (UNSET, principal.user):
        detail = "to ask about another user takes the role operator"
        raise forbidden(server.pool.audit, request, request.path, detail)
    return principal.user


def _answer(request: Request, table: UsageTable, form: Format | UnsetType) -> Answer:
    accept = request.headers.get("Accept", "")
    if form == "csv" or (form is UNSET and preferences.wants_csv(accept)):
        return Reply(200, usage_csv(table).encode(), content_type=_CSV)
    return json(200, usage_json(table))


def _properties(text: str) -> Sequence[By]:
    # each once, as the query's own pattern lets them be repeated
    return cast(Sequence[By], tuple(dict.fromkeys(text.split(",")))) if text else ()
