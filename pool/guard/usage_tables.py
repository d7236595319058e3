"""Usage as JSON and as CSV. No I/O."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import Final, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from pool.guard.prices import usd_of
from pool.guard.usage import By, Group, Totals
from pool.text import no_formula


class Used(Struct, frozen=True, kw_only=True):
    """What turns used that are alike in the properties which were asked for.

    `cost_usd` is null where no turn had a price, and only of those that had one; `unpriced_turns`
    says how many had none.
    """

    day: str | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    user: str | UnsetType = UNSET
    agent: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    turns: int
    input_tokens: int
    output_tokens: int
    requests: int
    tool_calls: int
    cost_usd: float | None
    unpriced_turns: int


class UsageTable(Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """Usage from a day to another, both included, or of a session; a line for each group."""

    first: date | UnsetType = UNSET
    last: date | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    by: tuple[By, ...]
    usage: list[Used]


NUMBERS: Final = tuple(name for name in Used.__struct_fields__ if name not in get_args(By))


def used(group: Group, by: Sequence[By]) -> Used:
    """A group as it is told."""
    totals = group.totals
    return Used(
        **dict(zip(by, group.values, strict=True)),
        turns=totals.turns,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        requests=totals.requests,
        tool_calls=totals.tool_calls,
        cost_usd=usd_of(totals.cost_micro) if totals.unpriced < totals.turns else None,
        unpriced_turns=totals.unpriced,
    )


def usage_table(groups: Sequence[Group], by: Sequence[By], first: date, last: date) -> UsageTable:
    """Groups of some days as they are told."""
    return UsageTable(
        first=first, last=last, by=tuple(by), usage=[used(each, by) for each in groups]
    )


def session_table(session_id: str, totals: Totals) -> UsageTable:
    """What the turns of a session used together."""
    usage = [used(Group((), totals), ())]
    return UsageTable(session_id=session_id, by=(), usage=usage)


def usage_json(table: UsageTable) -> bytes:
    """A table as a JSON object."""
    return _encode(table)


def usage_csv(table: UsageTable) -> str:
    """A table as CSV (RFC 4180) with a line of names first. A text that a spreadsheet would take
    for a formula has a `'` before it.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*table.by, *NUMBERS])
    for each in table.usage:
        values = [no_formula(getattr(each, name)) for name in table.by]
        writer.writerow([*values, *(getattr(each, name) for name in NUMBERS)])
    return out.getvalue()


_encode: Final = msgspec.json.Encoder().encode
