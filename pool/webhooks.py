"""Webhooks: an ended turn is posted to where its caller asked, at least once.

What is still to be delivered is in the store (`Outbox`), put there by the commit that ended the
turn: it survives this process, and any process on the same store may deliver it. How a turn is
posted is not the engine's business: it is given a `Webhooks`.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, Final, Literal, Protocol

import structlog

from pool.config import PoolConfig
from pool.errors import StoreUnavailable
from pool.observer import Notice, Observers
from pool.store.base import Store
from pool.store.outbox import Delivery
from pool.turn import Turn

# How often to look for deliveries that became due elsewhere, or were put off for long.
LOOK_S: Final = 5.0
# What is taken is nobody else's for the time of a try, and this much longer to settle it.
SETTLE_S: Final = 20.0

_log = structlog.get_logger("pool.webhooks")


class NotDelivered(Exception):
    """The receiver has not taken the turn.

    `reason`: in words for the operator's log, without the URL. `final`: to try again is in vain.
    `retry_after_s`: the receiver asked for a pause of so many seconds.
    """

    def __init__(self, reason: str, *, final: bool = False, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.retry_after_s = retry_after_s


class Webhooks(Protocol):
    """Who can post turns."""

    def check(self, url: str) -> None:
        """Return if turns may be posted there; `InvalidRequest` says why not. Does not wait."""

    async def deliver(self, turn: Turn) -> None:
        """Post an ended turn to its webhook; `NotDelivered` if it was not taken."""


class WebhookNotice(Notice, frozen=True, gc=False):
    """A try to deliver a webhook ended: `delivered`, `put_off` (it is tried again), `given_up`."""

    turn_id: str
    outcome: Literal["delivered", "put_off", "given_up"]


class Deliveries:
    """Delivers what waits in the store's outbox, some at a time, until it is closed."""

    def __init__(
        self,
        webhooks: Webhooks,
        *,
        store: Store,
        config: PoolConfig,
        observers: Observers,
        random: Random,
    ) -> None:
        self._webhooks = webhooks
        self._store = store
        self._config = config
        self._observers = observers
        self._random = random
        self._hold_s = config.webhook_timeout_s + SETTLE_S
        self._loop = asyncio.get_running_loop()
        self._look = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._trying: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Deliveries [{len(self._trying)} of {self._config.webhook_parallel}]>"

    def start(self) -> None:
        """Begin with what was left from before."""
        self._look.set()
        self._looking = self._loop.create_task(self._look_again(), name="webhooks")

    def ended(self, turn: Turn) -> None:
        """A turn ended here: if it has a webhook, that is due now."""
        if turn.request.webhook is not None:
            self._look.set()

    async def close(self, *, grace_s: float) -> None:
        """Look once more and let tries end within `grace_s`; what is left is due again, later."""
        looking, self._looking = self._looking, None
        if looking is None:
            return
        await _cancelled({looking})
        try:
            async with asyncio.timeout(grace_s):
                await self._take()
                while self._trying:
                    await asyncio.wait(self._trying)
        except TimeoutError:
            _log.info("webhooks are left for later", trying=len(self._trying))
        finally:
            await _cancelled(self._trying)
            if self._alarm is not None:
                self._alarm.cancel()

    async def _look_again(self) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            self._look_in(LOOK_S)
            await self._take()

    def _look_in(self, delay_s: float) -> None:
        """Look after the delay, or before: only the earliest time is kept."""
        at = self._loop.time() + delay_s
        if self._alarm is not None:
            if self._alarm.when() <= at:
                return
            self._alarm.cancel()
        self._alarm = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._look.set()

    async def _take(self) -> None:
        """Start as many tries as there is room for. When one of them ends there is room again."""
        room = self._config.webhook_parallel - len(self._trying)
        if room <= 0:
            return
        try:
            taken = await self._store.take_deliveries(room, self._hold_s)
        except StoreUnavailable as error:
            _log.warning("webhooks cannot be looked for", error=error.detail, again_in_s=LOOK_S)
            return
        except Exception:
            # a defect; but what waits in the outbox must not wait for a restart
            _log.exception("looking for webhooks failed", again_in_s=LOOK_S)
            return
        for delivery in taken:
            trying = self._loop.create_task(self._try(delivery), name=f"webhook {delivery.turn_id}")
            self._trying.add(trying)
            trying.add_done_callback(self._tried)

    def _tried(self, trying: asyncio.Task[None]) -> None:
        if len(self._trying) >= self._config.webhook_parallel:
            # others may have been waiting for a place
            self._look.set()
        self._trying.discard(trying)

    async def _try(self, delivery: Delivery) -> None:
        try:
            turn = await self._store.turn(delivery.turn_id)
            if turn is None:
                _log.warning("webhook of a turn that is no longer kept", turn_id=delivery.turn_id)
                await self._store.settle(delivery.turn_id)
                return
            failure = await self._deliver(turn)
            if failure is None:
                await self._store.settle(turn.id)
                self._notice(turn, "delivered")
            else:
                await self._failed(turn, delivery.tries + 1, failure)
        except StoreUnavailable as error:
            _log.warning(
                "webhook could not be settled: it is delivered again",
                turn_id=delivery.turn_id,
                error=error.detail,
                again_in_s=self._hold_s,
            )

    async def _deliver(self, turn: Turn) -> NotDelivered | None:
        try:
            async with asyncio.timeout(self._config.webhook_timeout_s):
                await self._webhooks.deliver(turn)
        except NotDelivered as failure:
            return failure
        except TimeoutError:
            return NotDelivered(f"no answer within {self._config.webhook_timeout_s:g} s")
        except Exception:
            _log.exception("webhook failed in the server itself", turn_id=turn.id)
            return NotDelivered("the server itself failed")
        return None

    async def _failed(self, turn: Turn, tries: int, failure: NotDelivered) -> None:
        delay_s = next_try_in_s(tries, failure, self._config, jitter=self._random.uniform(0.5, 1.0))
        said = {"agent": turn.agent, "turn_id": turn.id, "tries": tries, "reason": failure.reason}
        if delay_s is None:
            await self._store.settle(turn.id)
            _log.error("webhook is given up", **said, remedy="the turn itself is kept: ask for it")
            self._notice(turn, "given_up")
            return
        await self._store.put_off(turn.id, delay_s)
        _log.warning("webhook is put off", **said, again_in_s=round(delay_s, 3))
        self._notice(turn, "put_off")
        self._look_in(delay_s)

    def _notice(self, turn: Turn, outcome: Literal["delivered", "put_off", "given_up"]) -> None:
        if self._observers:
            self._observers.notice(WebhookNotice(turn.agent, turn.id, outcome))


def next_try_in_s(
    tries: int, failure: NotDelivered, config: PoolConfig, *, jitter: float
) -> float | None:
    """Seconds until the next try, after so many (from 1) that failed; None: give up.

    They double, from `webhook_first_s` to `webhook_max_s`, and are multiplied by `jitter`, 0.5 to
    1, so that many that failed together do not come back together.
    """
    if failure.final or tries >= config.webhook_tries:
        return None
    doubled_s = config.webhook_first_s * 2.0 ** min(tries - 1, 60)
    backoff_s = min(doubled_s, config.webhook_max_s) * jitter
    return max(backoff_s, min(failure.retry_after_s, config.webhook_max_s))


async def _cancelled(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
