"""What is told of budgets reaches the operator's webhook, signed, and holds nobody up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.web import Response
from structlog.testing import capture_logs

from pool import AgentPool, AgentSpec, PoolConfig, Principal
from pool.errors import BudgetExceeded, ConfigError
from pool.events import UsageReported
from pool.guard.budget import Budget
from pool.guard.ledger import CostConfig
from pool.observer import TasksLeakedNotice
from pool.turn import Usage
from pool.webhooks import NotDelivered
from protocol.webhook.alert_config import AlertConfig
from protocol.webhook.alerts import Alerts
from protocol.webhook.poster import Poster
from tests.support.alerts import budget_notice as notice
from tests.support.receiver import Receiver, receiving

SECRET = "whsec_" + "A" * 32
HERE: dict[str, Any] = {"secret": SECRET, "allow_private": True, "allow_http": True}
# Tries follow each other at once.
SOON = PoolConfig(webhook_first_s=0.01, webhook_max_s=0.01, webhook_tries=3)

real_time = pytest.mark.real_time


@asynccontextmanager
async def posting(
    receiver: Receiver, retry: PoolConfig = SOON, *, grace_s: float = 2.0, **options: Any
) -> AsyncIterator[Alerts]:
    """Alerts to a receiver; at the end what waits is tried once more."""
    config = AlertConfig(url=receiver.url, **{**HERE, **options})
    async with Poster(config) as poster:
        alerts = Alerts(config, poster, retry=retry, wall=lambda: 1_800_000_000.0)
        alerts.start()
        try:
            yield alerts
        finally:
            await alerts.close(grace_s=grace_s)


def read(receiver: Receiver) -> list[dict[str, Any]]:
    """What was posted, each verified."""
    return [received.verified(SECRET) for received in receiver.got]


@real_time
async def test_an_alert_is_posted_with_what_happened() -> None:
    """Amounts of money in US dollars; the time; a name of its own."""
    async with receiving() as receiver, posting(receiver) as alerts:
        alerts.notice(notice(unit="micro", spent=9_100_000, limit=10_000_000, percent=90))
        await receiver.received(1)
    assert read(receiver) == [
        {
            "type": "budget.alert",
            "timestamp": "2027-01-15T08:00:00Z",
            "data": {
                "budget": "daily",
                "outcome": "alert",
                "subject": "tenant:acme",
                "period": "day",
                "unit": "usd",
                "spent": 9.1,
                "limit": 10.0,
                "percent": 90,
                "agent": "a",
                "count": 1,
            },
        }
    ]
    assert receiver.got[0].headers["webhook-id"].startswith("alert_")


@real_time
async def test_only_what_was_asked_for_is_posted() -> None:
    """By default alerts and refusals; nothing that is no business of budgets."""
    async with receiving() as receiver:
        async with posting(receiver) as alerts:
            for outcome in ("warned", "cheaper", "refused"):
                alerts.notice(notice(outcome=outcome))
            alerts.notice(TasksLeakedNotice("a", "t", 1))
        async with posting(receiver, outcomes=("warned",)) as alerts:
            for outcome in ("alert", "warned"):
                alerts.notice(notice(outcome=outcome))
    assert [body["data"]["outcome"] for body in read(receiver)] == ["refused", "warned"]


@real_time
async def test_a_try_that_failed_is_repeated_as_it_was() -> None:
    """The same body under the same name, after a pause that the receiver may lengthen."""
    busy = Response(status=503, headers={"Retry-After": "0"})
    async with receiving(500, busy) as receiver, posting(receiver) as alerts:
        alerts.notice(notice())
        await receiver.received(3)
        alerts.notice(notice(budget="other"))
        await receiver.received(4)
    bodies = {received.body for received in receiver.got[:3]}
    names = [received.headers["webhook-id"] for received in receiver.got]
    assert len(bodies) == 1
    assert names[0] == names[1] == names[2] != names[3]


@real_time
async def test_others_do_not_wait_for_one_that_fails() -> None:
    """It is put off, and they go on."""
    retry = PoolConfig(webhook_first_s=60.0, webhook_max_s=60.0)
    async with receiving(500) as receiver, posting(receiver, retry) as alerts:
        alerts.notice(notice(budget="a"))
        alerts.notice(notice(budget="b"))
        await receiver.received(2)
    # at the end what waits is tried whether it is due or not
    assert [body["data"]["budget"] for body in read(receiver)] == ["a", "b", "a"]


@real_time
async def test_one_that_fails_too_often_is_given_up() -> None:
    """So is one whose receiver is gone for good; the log says so."""
    with capture_logs() as logs:
        async with receiving(500, 500, 500, 410) as receiver, posting(receiver) as alerts:
            alerts.notice(notice(budget="a"))
            await receiver.received(3)
            alerts.notice(notice(budget="b"))
            await receiver.received(4)
    given_up = [log for log in logs if log["event"] == "alert is given up"]
    assert [(log["budget"], log["tries"]) for log in given_up] == [("a", 3), ("b", 1)]
    assert len(receiver.got) == 4


@real_time
async def test_a_receiver_that_says_nothing_is_left_after_a_while() -> None:
    """A try may take so long, and no longer; the end of the process may not wait for it either."""
    config = AlertConfig(url="http://127.0.0.1:9999/", **HERE)

    class Deaf(Poster):
        async def post(self, url: str, message_id: str, body: bytes) -> None:
            await asyncio.Event().wait()

    retry = PoolConfig(webhook_timeout_s=0.02, webhook_first_s=0.01, webhook_max_s=0.01)
    with capture_logs() as logs:
        alerts = Alerts(config, Deaf(config), retry=retry)
        alerts.start()
        for budget in "abc":
            alerts.notice(notice(budget=budget))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await alerts.close(grace_s=0.03)
        assert time.monotonic() - began < 1.0
        await alerts.close(grace_s=5.0)
    assert "no answer within 0.02 s" in {log.get("reason") for log in logs}
    assert logs[-1]["event"] == "alerts are lost at the end of the process"
    assert logs[-1]["alerts"] == 3


@real_time
async def test_a_defect_does_not_end_the_posting() -> None:
    """The alert is tried again, the trace is in the log."""
    config = AlertConfig(url="http://127.0.0.1:9999/", **HERE)
    posted: list[bytes] = []
    done = asyncio.Event()

    class Broken(Poster):
        async def post(self, url: str, message_id: str, body: bytes) -> None:
            posted.append(body)
            if len(posted) == 1:
                raise RuntimeError("a defect")
            if len(posted) == 2:
                raise NotDelivered("answered 500")
            done.set()

    with capture_logs() as logs:
        alerts = Alerts(config, Broken(config), retry=SOON)
        alerts.start()
        alerts.notice(notice())
        await done.wait()
        await alerts.close(grace_s=1.0)
    assert len(set(posted)) == 1 and len(posted) == 3
    assert [log["log_level"] for log in logs] == ["error", "warning", "warning"]


@real_time
async def test_too_many_are_dropped_and_told_once() -> None:
    """Whoever tells of a budget never waits."""
    with capture_logs() as logs:
        async with receiving() as receiver, posting(receiver, buffer_max=5) as alerts:
            for n in range(20):
                alerts.notice(notice(budget=f"b{n}"))
            assert alerts.dropped == 15
            assert repr(alerts) == "<Alerts <AlertQueue [5 of 5, 15 dropped]>>"
    assert [body["data"]["budget"] for body in read(receiver)] == [f"b{n}" for n in range(15, 20)]
    assert [log["event"] for log in logs] == ["alerts are dropped: too many wait to be posted"]


@real_time
async def test_a_budget_that_is_used_up_is_heard_of() -> None:
    """From a pool: an alert for the place that was passed, one for all refusals; no user's text."""
    budget = Budget(
        name="daily", scope="tenant", period="day", tokens=100, alerts=(50,), reserve_tokens=10
    )
    cost = CostConfig(budgets=(budget,))
    async with receiving() as receiver, posting(receiver) as alerts:
        spec = AgentSpec(agent=_spending)
        async with AgentPool(spec, cost=cost, observers=[alerts]) as pool:
            acme = Principal("acme", "ann")
            await pool.ask("canary", principal=acme)
            await receiver.received(1)
            for _ in range(3):
                with pytest.raises(BudgetExceeded):
                    await pool.ask("canary", principal=acme)
            await receiver.received(2)
    told = [body["data"] for body in read(receiver)]
    assert [(each["outcome"], each["percent"]) for each in told[:2]] == [
        ("alert", 50),
        ("refused", 100),
    ]
    assert sum(each["count"] for each in told[1:]) == 3
    assert b"canary" not in b"".join(received.body for received in receiver.got)


async def _spending(text: str, ctx: Any) -> AsyncIterator[Any]:
    yield "ok"
    yield UsageReported(Usage(60, 40, requests=1, models=("m",)))


@pytest.mark.parametrize(
    ("option", "options"),
    [
        ("secret", {"secret": ""}),
        ("secret", {"secret": "short"}),
        ("url", {"allow_http": False}),
        ("url", {"allow_private": False}),
        ("url", {"url": "canary"}),
        ("outcomes", {"outcomes": ("canary",)}),
        ("again_s", {"again_s": -1.0}),
        ("again_s", {"again_s": float("nan")}),
        ("buffer_max", {"buffer_max": 0}),
    ],
)
def test_mistakes_in_the_configuration_are_named(option: str, options: dict[str, Any]) -> None:
    """Without the URL, which may hold a secret."""
    with pytest.raises(ConfigError) as raised:
        AlertConfig(**{**HERE, "url": "http://127.0.0.1:9999/token", **options})
    assert raised.value.option == option
    assert "token" not in str(raised.value)


def test_a_configuration_shows_neither_its_url_nor_its_secret() -> None:
    """In logs and errors."""
    config = AlertConfig(**HERE, url="http://127.0.0.1:9999/token")
    assert repr(config) == "<AlertConfig to a URL, alert, refused>"
    assert repr(AlertConfig()) == "<AlertConfig none, alert, refused>"
