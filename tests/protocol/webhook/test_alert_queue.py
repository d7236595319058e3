"""Alerts that wait: equal ones are one, none is told too often, and there are so many at most."""

from __future__ import annotations

from typing import Any

from protocol.webhook.alert_queue import Alert, AlertQueue
from tests.support.alerts import budget_notice as notice


def queue(again_s: float = 100.0, buffer_max: int = 3) -> AlertQueue:
    """A queue."""
    return AlertQueue(again_s=again_s, buffer_max=buffer_max)


def taken(alerts: AlertQueue, now: float) -> list[Alert]:
    """All that are due."""
    found = []
    while (alert := alerts.take(now)) is not None:
        found.append(alert)
    return found


def test_a_notice_is_due_at_once() -> None:
    """The first of its kind, and then nothing is."""
    alerts = queue()
    assert alerts.due is None
    alerts.add(notice(), now=5.0, at=1_000.0)
    assert alerts.due == 5.0
    (alert,) = taken(alerts, 5.0)
    assert (alert.notice, alert.at, alert.count, alert.tries) == (notice(), 1_000.0, 1, 0)
    assert alert.id.startswith("alert_")
    assert (len(alerts), alerts.due) == (0, None)


def test_equal_ones_that_wait_are_one() -> None:
    """With the numbers of the latest and the time of the first."""
    alerts = queue()
    for spent in (1, 2, 3):
        alerts.add(notice(outcome="refused", spent=spent), now=float(spent), at=float(spent))
    (alert,) = taken(alerts, 5.0)
    assert (alert.notice.spent, alert.count, alert.at) == (3, 3, 1.0)


def test_those_of_other_kinds_are_others() -> None:
    """Another budget, subject, period, unit, outcome, or place of an alert."""
    alerts = queue(buffer_max=10)
    others: list[dict[str, Any]] = [
        {},
        {"budget": "other"},
        {"subject": "tenant:other"},
        {"period": "day 2"},
        {"unit": "micro"},
        {"outcome": "refused"},
        {"percent": 90},
    ]
    for other in others:
        alerts.add(notice(**other), now=0.0, at=0.0)
    assert len(taken(alerts, 0.0)) == len(others)


def test_refusals_are_one_kind_however_much_was_spent() -> None:
    """Their percent is what was reached, not a place."""
    alerts = queue()
    for percent in (100, 101):
        alerts.add(notice(outcome="refused", percent=percent), now=0.0, at=0.0)
    assert len(taken(alerts, 0.0)) == 1


def test_what_was_told_is_told_again_after_a_while() -> None:
    """What comes meanwhile waits together, and then has a name of its own."""
    alerts = queue(again_s=100.0)
    alerts.add(notice(), now=0.0, at=0.0)
    (first,) = taken(alerts, 2.0)
    for now in (3.0, 50.0):
        alerts.add(notice(), now=now, at=now)
    assert alerts.due == 102.0
    assert taken(alerts, 101.9) == []
    (second,) = taken(alerts, 102.0)
    assert (second.count, second.at) == (2, 3.0)
    assert second.id != first.id
    alerts.add(notice(), now=500.0, at=500.0)
    assert alerts.due == 500.0


def test_one_that_was_put_back_is_told_as_it_is() -> None:
    """Its body stays the same: others of its kind are not joined to it, and wait for their time."""
    alerts = queue()
    alerts.add(notice(spent=1), now=0.0, at=0.0)
    (alert,) = taken(alerts, 0.0)
    alert.tries = 1
    alerts.put_back(alert, 7.0)
    alerts.add(notice(spent=2), now=1.0, at=1.0)
    assert taken(alerts, 6.9) == []
    assert taken(alerts, 7.0) == [alert]
    assert (alert.notice.spent, alert.count) == (1, 1)
    assert [each.notice.spent for each in taken(alerts, 100.0)] == [2]


def test_the_one_goes_first_that_is_due_longest() -> None:
    """However late it was put in."""
    alerts = queue()
    alerts.add(notice(budget="a"), now=3.0, at=0.0)
    alerts.add(notice(budget="b"), now=1.0, at=0.0)
    assert [alert.notice.budget for alert in taken(alerts, 9.0)] == ["b", "a"]


def test_the_oldest_are_dropped_when_there_are_too_many() -> None:
    """And counted; one that failed is as old as it is."""
    alerts = queue(buffer_max=3)
    alerts.add(notice(budget="a"), now=0.0, at=1.0)
    (failed,) = taken(alerts, 0.0)
    for at, budget in enumerate("bc", start=2):
        alerts.add(notice(budget=budget), now=0.0, at=float(at))
    alerts.put_back(failed, 9.0)
    for at, budget in enumerate("de", start=4):
        alerts.add(notice(budget=budget), now=0.0, at=float(at))
    assert repr(alerts) == "<AlertQueue [3 of 3, 2 dropped]>"
    assert [alert.notice.budget for alert in taken(alerts, 9.0)] == ["c", "d", "e"]


def test_what_was_told_is_not_remembered_for_ever() -> None:
    """Of so many kinds at most; one that is forgotten is told early."""
    alerts = queue(buffer_max=2)
    for budget in "abc":
        alerts.add(notice(budget=budget), now=0.0, at=0.0)
        assert len(taken(alerts, 0.0)) == 1
    alerts.add(notice(budget="a"), now=1.0, at=0.0)
    alerts.add(notice(budget="c"), now=1.0, at=0.0)
    assert [alert.notice.budget for alert in taken(alerts, 1.0)] == ["a"]
