from __future__ import annotations

import pytest

from protocol.command.table import moment, table


def test_columns_are_aligned() -> None:
    """Each column is as wide as its widest cell; nothing follows the last one."""
    assert list(table(("A", "LONG"), [("one", "1"), ("three", "")])) == [
        "A      LONG",
        "one    1",
        "three",
    ]


def test_no_rows_are_no_lines() -> None:
    """A head alone says nothing."""
    assert list(table(("A",), [])) == []


def test_the_widest_columns_are_cut_to_fit() -> None:
    """What does not fit a terminal ends in an ellipsis; narrow columns stay whole."""
    lines = list(table(("ID", "NAME", "TEXT"), [("1", "n" * 30, "t" * 30)], width=40))
    assert lines[1] == f"1   {'n' * 16}\u2026  {'t' * 16}\u2026"
    assert max(map(len, lines)) == 40


def test_a_terminal_that_is_too_narrow_gets_what_can_be_read() -> None:
    """No column is cut to less than a few letters."""
    (_, line) = table(("A", "B"), [("a" * 30, "b" * 30)], width=3)
    assert line == f"{'a' * 7}\u2026  {'b' * 7}\u2026"


def test_wide_letters_count_twice() -> None:
    """Columns are those of a terminal, not letters."""
    assert list(table(("A", "B"), [("\u6f22\u5b57", "x"), ("abcd", "y")])) == [
        "A     B",
        "\u6f22\u5b57  x",
        "abcd  y",
    ]


def test_cells_cannot_steer_the_terminal() -> None:
    """Controls and direction marks are made visible."""
    (_, line) = table(("A",), [("a\x1b[2J\n\u202eb",)])
    assert line == "a\\u001b[2J\\u000a\\u202eb"


def test_a_moment_is_in_utc() -> None:
    """Times are to the second; what has not happened is a dash."""
    assert moment(1_700_000_000.9) == "2023-11-14 22:13:20Z"
    assert moment(None) == "-"


@pytest.mark.parametrize("seconds", [8.64e15, 1e300, float("inf")])
def test_a_moment_beyond_all_calendars_is_its_number(seconds: float) -> None:
    """Whoever made it, what else is in the list can be read."""
    assert moment(seconds) == f"{seconds:g}"
