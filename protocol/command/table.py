"""Tables of plain text that fit a terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final
from unicodedata import east_asian_width

import click

from protocol.command.screen import visible

_GAP: Final = "  "
# A column is not made narrower than this to fit.
_LEAST: Final = 8


def print_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        click.echo(line)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_lines(table(head, rows, width))


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
    """A time in UTC, to the second; - for none; its number if it is beyond all calendars."""
    if seconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g}"


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
