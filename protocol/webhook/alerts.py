"""Posts what is told of budgets to the operator's webhook, signed, at least once.

What waits lives in this process alone: an alert that its end takes away is also in the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from math import inf
from random import Random
from typing import Literal

import msgspec
import structlog
from msgspec import Struct

from pool.config import PoolConfig
from pool.guard.budget_notices import BudgetNotice, Outcome
from pool.guard.prices import usd_of
from pool.observer import Notice, Take
from pool.webhooks import NotDelivered, next_try_in_s
from protocol import encode
from protocol.webhook.alert_config import AlertConfig
from protocol.webhook.alert_queue import Alert, AlertQueue
from protocol.webhook.poster import Poster

_log = structlog.get_logger("protocol.webhook.alerts")


class AlertData(Struct, frozen=True):
    """What happened: `spent` of `limit`, in `unit`, by `subject` in `period`; `count` times since
    it was told last. `agent`: that of the turn that was the latest.
    """

    budget: str
    outcome: Outcome
    subject: str
    period: str
    unit: Literal["tokens", "usd"]
    spent: float
    limit: float
    percent: int
    agent: str
    count: int


class AlertBody(Struct, frozen=True):
    """What is posted; `timestamp` is when it first happened."""

    type: str
    timestamp: datetime
    data: AlertData


class Alerts:
    """An observer that posts. `retry`: how long a try may take, and when the next one is (its
    options of webhooks). `wall`: seconds since the epoch; `clock`: monotonic ones.
    """

    def __init__(
        self,
        config: AlertConfig,
        poster: Poster,
        *,
        retry: PoolConfig,
        random: Random | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._poster = poster
        self._retry = retry
        self._random = random or Random()
        self._wall = wall
        self._clock = clock
        self._queue = AlertQueue(again_s=config.again_s, buffer_max=config.buffer_max)
        self._news = asyncio.Event()
        self._posting: asyncio.Task[None] | None = None
        self._ending = False

    def __repr__(self) -> str:
        return f"<Alerts {self._queue!r}>"

    @property
    def dropped(self) -> int:
        """How many were dropped because too many waited."""
        return self._queue.dropped

    def start(self) -> None:
        """Post what comes from now on, and what came before."""
        loop = asyncio.get_running_loop()
        self._posting = loop.create_task(self._post_all(), name="alerts")

    def notice(self, notice: Notice) -> None:
        """Have it posted, if it is one of a budget; returns at once."""
        if not (isinstance(notice, BudgetNotice) and notice.outcome in self._config.outcomes):
            return
        dropped = self._queue.dropped
        self._queue.add(notice, now=self._clock(), at=self._wall())
        if dropped == 0 and self._queue.dropped:
            _log.warning(
                "alerts are dropped: too many wait to be posted",
                at_most=self._config.buffer_max,
                remedy="look after the receiver of [alerts]; budgets are in the log, too",
            )
        self._news.set()

    def taker(self, kind: type[Notice]) -> Take | None:
        """See `Chooser`."""
        return self.notice if kind is BudgetNotice else None

    async def close(self, *, grace_s: float) -> None:
        """Try what waits once more, due or not, within `grace_s`; the rest is lost."""
        posting, self._posting = self._posting, None
        if posting is None:
            return
        self._ending = True
        self._news.set()
        lost = 0
        try:
            async with asyncio.timeout(grace_s):
                # the try that it is in may end well
                await posting
                while (alert := self._queue.take(inf)) is not None:
                    # one that the time cuts short is lost as well
                    lost += 1
                    lost -= await self._try(alert) is None
        except TimeoutError:
            lost += len(self._queue)
        if lost:
            _log.warning("alerts are lost at the end of the process", alerts=lost)

    async def _post_all(self) -> None:
        while not self._ending:
            self._news.clear()
            alert = self._queue.take(self._clock())
            if alert is None:
                await self._wait()
            else:
                await self._post(alert)

    async def _wait(self) -> None:
        due = self._queue.due
        delay_s = None if due is None else due - self._clock()
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._news.wait()

    async def _post(self, alert: Alert) -> None:
        try:
            failure = await self._try(alert)
        except asyncio.CancelledError:
            self._queue.put_back(alert, self._clock())
            raise
        if failure is None:
            return
        delay_s = next_try_in_s(
            alert.tries, failure, self._retry, jitter=self._random.uniform(0.5, 1.0)
        )
        said = {"budget": alert.notice.budget, "tries": alert.tries, "reason": failure.reason}
        if delay_s is None:
            _log.error("alert is given up", **said, remedy="check [alerts] and its receiver")
            return
        _log.warning("alert is put off", **said, again_in_s=round(delay_s, 3))
        self._queue.put_back(alert, self._clock() + delay_s)

    async def _try(self, alert: Alert) -> NotDelivered | None:
        alert.tries += 1
        try:
            async with asyncio.timeout(self._retry.webhook_timeout_s):
                await self._poster.post(self._config.url, alert.id, body_of(alert))
        except NotDelivered as failure:
            return failure
        except TimeoutError:
            return NotDelivered(f"no answer within {self._retry.webhook_timeout_s:g} s")
        except Exception:
            # a defect; but the next alert must not wait for a restart
            _log.exception("alert failed in the server itself", budget=alert.notice.budget)
            return NotDelivered("the server itself failed")
        return None


def body_of(alert: Alert) -> bytes:
    """The body of an alert: the same at every try."""
    notice = alert.notice
    money = notice.unit == "micro"
    data = AlertData(
        budget=notice.budget,
        outcome=notice.outcome,
        subject=notice.subject,
        period=notice.period,
        unit="usd" if money else "tokens",
        spent=usd_of(notice.spent) if money else notice.spent,
        limit=usd_of(notice.limit) if money else notice.limit,
        percent=notice.percent,
        agent=notice.agent,
        count=alert.count,
    )
    return msgspec.json.encode(AlertBody("budget.alert", encode.when(alert.at), data))
