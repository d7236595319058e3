"""Tables of plain text that fit a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final
from unicodedata import east_asian_width

from protocol.command.screen import visible

_GAP: Final = "  "
# A column is not made narrower than this to fit.
_LEAST: Final = 8


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> Iterator[str]:
    """Lines of aligned columns; none for no rows.

    `width`: of the terminal; the widest columns are cut until the lines fit, if that can be done
    (None: nothing is cut).
    """
    if not rows:
        return
    shown = [tuple(head), *(tuple(map(visible, row)) for row in rows)]
    widths = [max(map(_columns, column)) for column in zip(*shown, strict=True)]
    if width is not None:
        widths = _fitted(widths, width - len(_GAP) * (len(widths) - 1))
    for row in shown:
        cells = (_padded(_cut(cell, most), most) for cell, most in zip(row, widths, strict=True))
        yield _GAP.join(cells).rstrip()


def moment(seconds: float | None) -> str:
    """A time in UTC, to the second; - for none."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _fitted(widths: list[int], total: int) -> list[int]:
    """The widths, the widest ones made equal, so that their sum fits if it can."""
    most = max(widths, default=0)
    while sum(min(each, most) for each in widths) > total and most > _LEAST:
        most -= 1
    return [min(each, most) for each in widths]


def _cut(text: str, most: int) -> str:
    if _columns(text) <= most:
        return text
    fitting = sum(end < most for end in accumulate(map(_column, text)))
    return text[:fitting] + "\u2026"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _columns(text: str) -> int:
    return sum(map(_column, text))


def _column(each: str) -> int:
    return 2 if east_asian_width(each) in "WF" else 1
