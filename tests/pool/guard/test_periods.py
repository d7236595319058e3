"""Days, weeks and months in UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.guard.periods import Period, Span, day_of, days, span_at, starts


def at(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("period", "span"),
    [
        ("day", Span("2026-11-21", at(2026, 11, 21), at(2026, 11, 22))),
        ("week", Span("2026-W47", at(2026, 11, 16), at(2026, 11, 23))),
        ("month", Span("2026-11", at(2026, 11, 1), at(2026, 12, 1))),
    ],
)
def test_a_time_has_its_day_week_and_month(period: Period, span: Span) -> None:
    """A Saturday's week began on Monday, and its month on the first."""
    assert span_at(period, at(2026, 11, 21, 16, 30)) == span


def test_a_week_may_belong_to_the_year_before() -> None:
    """The first of January 2027 is a Friday of the last week of 2026."""
    assert span_at("week", at(2027, 1, 1)).name == "2026-W53"


def test_a_month_ends_where_the_next_year_begins() -> None:
    """December has 31 days."""
    assert span_at("month", at(2026, 12, 31, 23)).ends == at(2027, 1, 1)


@given(
    st.sampled_from(["day", "week", "month"]),
    st.floats(min_value=0, max_value=4e9, allow_nan=False),
)
def test_a_span_holds_its_time_and_the_next_follows(period: Period, when: float) -> None:
    """Spans leave no gap and do not overlap."""
    span = span_at(period, when)

    assert span.begins <= when < span.ends
    assert span_at(period, span.ends).begins == span.ends
    assert span_at(period, span.begins) == span


def test_days_include_both_ends() -> None:
    """From a day to the day after are two days; backwards are none."""
    first, last = date(2026, 2, 28), date(2026, 3, 1)

    assert list(days(first, last)) == [first, last]
    assert list(days(last, first)) == []
    assert day_of(starts(last)) == last
