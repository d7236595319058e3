"""Figures, medians, ratios, targets, and the table that shows them."""

from __future__ import annotations

import pytest

from bench.result import Row, Target, alternate, by_turns, table


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (None, None),
        (Target(0.5, "at least"), True),
        (Target(0.6, "at least"), False),
        (Target(0.5, "at most"), True),
        (Target(0.4, "at most"), False),
        (Target(10, "at most", of="value"), True),
        (Target(9, "at most", of="value"), False),
    ],
)
def test_target_bounds_ratio_or_value(target: Target | None, met: bool | None) -> None:
    """A target is met if the ratio, or the pool's own value, is on its side of the bound."""
    row = Row(what="", unit="", pool=10, bare=20, target=target)

    assert row.met is met


def test_ratio_needs_a_bare_side() -> None:
    """With nothing held against the pool there is no ratio, and a target on it is not judged."""
    row = Row(what="", unit="", pool=10, target=Target(1, "at least"))

    assert (row.ratio, row.met) == (None, None)


def test_sides_take_turns() -> None:
    """Each side is measured once a round, and who begins alternates."""
    order: list[str] = []

    alternate(3, pool=lambda: order.append("pool"), bare=lambda: order.append("bare"))

    assert order == ["pool", "bare", "bare", "pool", "pool", "bare"]


def test_every_other_round_goes_backwards() -> None:
    """Any number of sides are measured once a round, none of them always after the same one."""
    found = iter(range(6))

    figures = by_turns(2, {name: lambda: next(found) for name in ("a", "b", "c")})

    assert figures == {"a": [0, 5], "b": [1, 4], "c": [2, 3]}


def test_row_has_the_medians() -> None:
    """One wild round changes nothing."""
    pool, bare = iter([5.0, 1000.0, 6.0]), iter([10.0, 12.0, 0.1])

    row = alternate(3, pool=lambda: next(pool), bare=lambda: next(bare)).row("", "", float)

    assert (row.pool, row.bare, row.ratio) == (6, 10, 0.6)


def test_table_says_what_is_missed() -> None:
    """A missed target is shouted, a met one said, none left blank."""
    rows = [
        Row(what="fast", unit="turns/s", pool=12345, bare=20000, target=Target(0.6, "at least")),
        Row(what="slow", unit="s", pool=0.71, target=Target(0.6, "at most", of="value")),
        Row(what="plain", unit="ms", pool=1.5),
    ]

    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(rows).splitlines()]

    assert lines[2:] == [
        ["fast", "12,345 turns/s", "20,000", "0.62", "at least 0.6 of bare", "yes"],
        ["slow", "0.71 s", "", "", "at most 0.6 s", "NO"],
        ["plain", "1.5 ms", "", "", "", ""],
    ]
