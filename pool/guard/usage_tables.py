"""Usage as JSON and as CSV. No I/O."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from pool.guard.prices import usd_of
from pool.guard.usage import By, Group, Totals


def usage_json(groups: Sequence[Group], by: Sequence[By], first: date, last: date) -> bytes:
    """`{"since", "until", "by", "usage": [{<each of by>, "turns", ...}]}`. `cost_usd` is null where
    no turn had a price, and only of those that had one; `unpriced_turns` says how many had none.
    """
    return msgspec.json.encode(
        {
            "since": first.isoformat(),
            "until": last.isoformat(),
            "by": list(by),
            "usage": [
                {**dict(zip(by, each.values, strict=True)), **_told(each.totals)} for each in groups
            ],
        }
    )


def usage_csv(groups: Sequence[Group], by: Sequence[By]) -> str:
    """The same as CSV (RFC 4180) with a line of names first. A text that a spreadsheet would take
    for a formula has a `'` before it.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*by, *_told(Totals())])
    for each in groups:
        writer.writerow([*map(_text, each.values), *_told(each.totals).values()])
    return out.getvalue()


def _told(totals: Totals) -> dict[str, Any]:
    priced = totals.unpriced < totals.turns
    return {
        "turns": totals.turns,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "requests": totals.requests,
        "tool_calls": totals.tool_calls,
        "cost_usd": usd_of(totals.cost_micro) if priced else None,
        "unpriced_turns": totals.unpriced,
    }


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value
