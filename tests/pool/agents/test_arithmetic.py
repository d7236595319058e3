"""The demo's arithmetic."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.agents.arithmetic import NotArithmetic, work_out


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("10 - 4 - 3", "3"),
        ("2*-3", "-6"),
        ("--2", "2"),
        ("7 / 2", "3.5"),
        ("1 / 3", "0.3333333333333333333333333333"),
        ("0.1 + 0.2", "0.3"),
        ("100", "100"),
        ("9" * 30, "999999999999999999999999999999"),
    ],
)
def test_arithmetic_is_worked_out(text, result):
    """Products bind tighter than sums, brackets tighter still, and decimals are exact."""
    assert work_out(text) == result


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it ends too early"),
        ("2 +", "it ends too early"),
        ("2 3", "unexpected '3'"),
        ("(2", "a bracket is not closed"),
        ("2)", "unexpected '\\)'"),
        ("2 ** 3", "unexpected '\\*'"),
        ("__import__", "unexpected '_'"),
        ("٣ + 1", "unexpected"),
        ("1 / 0", "division by zero"),
        ("0 / 0", "division by zero"),
        ("(" * 100 + "1", "nested more than 20 deep"),
        ("-" * 100 + "1", "nested more than 20 deep"),
        ("1" * 201, "more than 200 characters"),
    ],
)
def test_anything_else_says_why_not(text, why):
    """What is not arithmetic is refused with the reason."""
    with pytest.raises(NotArithmetic, match=why):
        work_out(text)


@given(st.text(alphabet="0123456789.+-*/() x", max_size=60))
def test_any_text_is_worked_out_or_refused(text):
    """No text raises anything but `NotArithmetic`."""
    try:
        result = work_out(text)
    except NotArithmetic:
        return
    assert Decimal(result).is_finite()
