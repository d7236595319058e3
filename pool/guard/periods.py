"""The days, weeks and months that budgets and usage are counted in, all of them in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Literal, NamedTuple

Period = Literal["day", "week", "month"]


class Span(NamedTuple):
    """One day, week (from Monday) or month: its name, and when it begins and ends, in seconds
    since the epoch.

    Names are `2026-11-21`, `2026-W47` (ISO 8601) and `2026-11`.
    """

    name: str
    begins: float
    ends: float


def span_at(period: Period, at: float) -> Span:
    """The day, week or month of a time, which is in seconds since the epoch."""
    day = day_of(at)
    if period == "day":
        return Span(day.isoformat(), starts(day), starts(day + timedelta(days=1)))
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        year, week, _ = day.isocalendar()
        return Span(f"{year}-W{week:02}", starts(monday), starts(monday + timedelta(days=7)))
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Span(f"{first:%Y-%m}", starts(first), starts(following))


def day_of(at: float) -> date:
    """The day of a time."""
    return datetime.fromtimestamp(at, UTC).date()


def starts(day: date) -> float:
    """When a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def days(first: date, last: date) -> Iterator[date]:
    """The days from the first to the last, both included."""
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)
