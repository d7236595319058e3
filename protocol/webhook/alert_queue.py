"""Alerts that wait to be posted: equal ones joined, none told too often, so many at most. No I/O.

Times are on a monotonic clock, in seconds, but for `Alert.at`.
"""

from __future__ import annotations

from uuid import uuid4

from msgspec import Struct, field

from pool.guard.budget_notices import BudgetNotice

Key = tuple[str, ...]


class Alert(Struct):
    """A notice, its latest one if `count` equal ones were joined; the first came `at` seconds since
    the epoch. It is posted from `due` on, for the time after `tries`.
    """

    notice: BudgetNotice
    at: float
    due: float
    count: int = 1
    tries: int = 0
    id: str = field(default_factory=lambda: f"alert_{uuid4().hex}")


class AlertQueue:
    """Equal are notices of one budget, subject and period with the same outcome. One that comes
    within `again_s` after its like was taken waits until then.
    """

    def __init__(self, *, again_s: float, buffer_max: int) -> None:
        # how many were dropped since the beginning
        self.dropped = 0
        self._again_s = again_s
        self._buffer_max = buffer_max
        self._waiting: dict[Key, Alert] = {}
        # when an alert of a kind was last taken, the oldest first
        self._taken: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<AlertQueue [{len(self)} of {self._buffer_max}, {self.dropped} dropped]>"

    @property
    def due(self) -> float | None:
        """When the next one is due."""
        return min((alert.due for alert in self._waiting.values()), default=None)

    def add(self, notice: BudgetNotice, *, now: float, at: float) -> None:
        """Take in a notice."""
        key = _key(notice)
        alert = self._waiting.get(key)
        if alert is not None:
            alert.notice = notice
            alert.count += 1
            return
        due = max(now, self._taken.get(key, -self._again_s) + self._again_s)
        self._put(key, Alert(notice, at, due))

    def put_back(self, alert: Alert, due: float) -> None:
        """One that was not taken by its receiver. It is told as it is: none is joined to it."""
        alert.due = due
        self._put((alert.id,), alert)

    def take(self, now: float) -> Alert | None:
        """The one that is due longest."""
        ready = [key for key, alert in self._waiting.items() if alert.due <= now]
        if not ready:
            return None
        first = min(ready, key=lambda key: self._waiting[key].due)
        alert = self._waiting.pop(first)
        if alert.tries == 0:
            self._remember(first, now)
        return alert

    def _put(self, key: Key, alert: Alert) -> None:
        self._waiting[key] = alert
        if len(self._waiting) > self._buffer_max:
            oldest = min(self._waiting, key=lambda key: self._waiting[key].at)
            del self._waiting[oldest]
            self.dropped += 1

    def _remember(self, key: Key, now: float) -> None:
        self._taken.pop(key, None)
        self._taken[key] = now
        while len(self._taken) > self._buffer_max:
            del self._taken[next(iter(self._taken))]


def _key(notice: BudgetNotice) -> Key:
    # each place of an alert is told once anyway
    place = str(notice.percent) if notice.outcome == "alert" else ""
    return (notice.outcome, notice.budget, notice.unit, notice.subject, notice.period, place)
