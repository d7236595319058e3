from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
from structlog.testing import capture_logs

from pool import AgentPool
from pool.config import PoolConfig
from pool.errors import ConfigError, InvalidRequest
from pool.observer import Notice, Observers
from pool.store.base import SessionKey, Store
from pool.store.memory import MemoryStore
from pool.store.outbox import Delivery
from pool.turn import Turn, TurnRequest, Webhook
from pool.webhooks import (
    LOOK_S,
    SETTLE_S,
    Deliveries,
    NotDelivered,
    WebhookNotice,
    next_try_in_s,
)
from tests.contract.steps import accept, commit, make_turn
from tests.support.stores import FailingStore, WrappedStore

URL = "https://receiver.example/"
CONFIG = PoolConfig(webhook_tries=4, webhook_parallel=2)


class Receiver:
    """Takes turns as its script says: "ok", "slow" (never answers), or an error; then all."""

    def __init__(self, *script: str | Exception) -> None:
        self.got: list[tuple[float, str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self._script = iter(script)
        self._news = asyncio.Event()

    @property
    def times(self) -> list[float]:
        """When there was a try."""
        return [at for at, _ in self.got]

    @property
    def ids(self) -> list[str]:
        """What was tried to deliver."""
        return [turn_id for _, turn_id in self.got]

    def check(self, url: str) -> None:
        """Everything may be asked for here."""

    async def deliver(self, turn: Turn) -> None:
        """Note the try and do as the script says."""
        self.got.append((asyncio.get_running_loop().time(), turn.id))
        self._news.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            step = next(self._script, "ok")
            if isinstance(step, Exception):
                raise step
            await asyncio.sleep(1e6 if step == "slow" else 0)
        finally:
            self.at_once -= 1

    async def tried(self, count: int) -> None:
        """Return once so many tries were begun."""
        while len(self.got) < count:
            self._news.clear()
            await self._news.wait()


class Notices:
    """An observer that keeps what became of webhooks."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def notice(self, notice: Notice) -> None:
        """Note it."""
        assert isinstance(notice, WebhookNotice)
        self.outcomes.append(notice.outcome)


class ForgetfulStore(WrappedStore):
    """Keeps the outbox, and no turn."""

    async def turn(self, turn_id: str) -> Turn | None:
        return None


class DefectiveStore(WrappedStore):
    """Has a defect that shows at the first look."""

    async def take_deliveries(self, limit: int, hold_s: float) -> Sequence[Delivery]:
        if asyncio.get_running_loop().time() == 0:
            raise ZeroDivisionError
        return await super().take_deliveries(limit, hold_s)


def memory() -> Store:
    """A store whose time is the loop's."""
    return MemoryStore(clock=asyncio.get_running_loop().time)


async def ended(store: Store, session: str = "s", *, webhook: bool = True) -> Turn:
    """A turn that has been run and committed."""
    turn = make_turn(key=SessionKey("acme", session))
    if webhook:
        turn.request = TurnRequest(input="hi", webhook=Webhook(URL))
    _, lease = await accept(store, turn)
    await commit(store, lease, turn)
    return turn


@asynccontextmanager
async def delivering(
    receiver: Receiver,
    store: Store,
    *,
    config: PoolConfig = CONFIG,
    observers: Sequence[Notices] = (),
    grace_s: float = 0.0,
) -> AsyncIterator[Deliveries]:
    """Deliveries until the block is left."""
    deliveries = Deliveries(
        receiver, store=store, config=config, observers=Observers(observers), random=Random(1)
    )
    deliveries.start()
    try:
        yield deliveries
    finally:
        await deliveries.close(grace_s=grace_s)


async def quiet(seconds: float = 3_600.0) -> None:
    """Let time pass in which everything that is to happen does."""
    await asyncio.sleep(seconds)


async def test_a_turn_that_ended_is_delivered_at_once() -> None:
    """Whoever ends a turn with a webhook need not wait for the next look."""
    store, receiver, notices = memory(), Receiver(), Notices()
    async with delivering(receiver, store, observers=[notices]) as deliveries:
        await quiet(1.0)
        turn = await ended(store)
        deliveries.ended(turn)
        await quiet()
    assert receiver.got == [(1.0, turn.id)]
    assert notices.outcomes == ["delivered"]


async def test_a_turn_without_a_webhook_is_not_delivered() -> None:
    """Only what was asked for is posted; nobody looks because of the others."""
    store, receiver = memory(), Receiver()
    counted = FailingStore(store)
    async with delivering(receiver, counted) as deliveries:
        await quiet(0.1)
        looks = counted.calls.count("take_deliveries")
        deliveries.ended(await ended(store, webhook=False))
        await quiet(0.1)
        assert counted.calls.count("take_deliveries") == looks
    assert receiver.got == []


async def test_what_was_left_from_before_is_delivered_at_the_start() -> None:
    """The outbox, not this process, remembers what is still to be delivered."""
    store, receiver = memory(), Receiver()
    turn = await ended(store)
    async with delivering(receiver, store):
        await receiver.tried(1)
    assert receiver.got == [(0.0, turn.id)]


async def test_what_others_leave_is_found_by_looking() -> None:
    """A turn that another process ended is delivered without being told of it."""
    store, receiver = memory(), Receiver()
    async with delivering(receiver, store):
        await quiet(1.0)
        await ended(store)
        await receiver.tried(1)
    assert receiver.times == [LOOK_S]


async def test_a_failure_is_tried_again_later_and_later() -> None:
    """Each pause is twice the last one, or up to half less; success ends it."""
    store = memory()
    receiver = Receiver(NotDelivered("answered 500"), NotDelivered("answered 500"))
    notices = Notices()
    await ended(store)
    async with delivering(receiver, store, observers=[notices]):
        await quiet()
    first, second, third = receiver.times
    assert 0.5 <= second - first <= 1.0
    assert 1.0 <= third - second <= 2.0
    assert notices.outcomes == ["put_off", "put_off", "delivered"]


async def test_after_the_last_try_it_is_given_up() -> None:
    """So many tries and no more; the log says which turn's, and why."""
    store = memory()
    receiver = Receiver(*[NotDelivered("answered 503")] * 10)
    notices = Notices()
    turn = await ended(store)
    with capture_logs() as logs:
        async with delivering(receiver, store, observers=[notices]):
            await quiet()
    assert receiver.ids == [turn.id] * 4
    assert notices.outcomes == ["put_off"] * 3 + ["given_up"]
    (line,) = [line for line in logs if line["event"] == "webhook is given up"]
    assert (line["turn_id"], line["tries"], line["reason"]) == (turn.id, 4, "answered 503")
    assert line["log_level"] == "error"


async def test_a_final_failure_is_not_tried_again() -> None:
    """Where it is in vain there is one try."""
    store = memory()
    receiver = Receiver(NotDelivered("answered 410", final=True))
    notices = Notices()
    await ended(store)
    async with delivering(receiver, store, observers=[notices]):
        await quiet()
    assert len(receiver.got) == 1
    assert notices.outcomes == ["given_up"]


async def test_a_receiver_may_ask_for_a_pause() -> None:
    """The next try is not before the time that the receiver asked for."""
    store = memory()
    receiver = Receiver(NotDelivered("answered 429", retry_after_s=60))
    await ended(store)
    async with delivering(receiver, store):
        await quiet()
    first, second = receiver.times
    assert 60 <= second - first <= 60 + LOOK_S


async def test_a_receiver_that_does_not_answer_is_left() -> None:
    """After `webhook_timeout_s` the try has failed, and holds no place any more."""
    store, receiver = memory(), Receiver("slow")
    await ended(store)
    async with delivering(receiver, store):
        await quiet()
    first, second = receiver.times
    assert CONFIG.webhook_timeout_s < second - first <= CONFIG.webhook_timeout_s + 1


async def test_a_defect_is_logged_and_tried_again() -> None:
    """An exception that nobody foresaw loses no webhook, and not the loop."""
    store, receiver = memory(), Receiver(ZeroDivisionError())
    await ended(store)
    with capture_logs() as logs:
        async with delivering(receiver, store):
            await quiet()
    assert len(receiver.got) == 2
    assert logs[0]["event"] == "webhook failed in the server itself"


async def test_a_slow_receiver_takes_one_place_only() -> None:
    """While one try hangs the others go on; there are never more at once than configured."""
    store, receiver = memory(), Receiver("slow")
    for number in range(6):
        await ended(store, f"s{number}")
    async with delivering(receiver, store):
        await receiver.tried(6)
        assert asyncio.get_running_loop().time() < CONFIG.webhook_timeout_s
    assert receiver.most_at_once == CONFIG.webhook_parallel


async def test_a_turn_that_is_no_longer_kept_is_settled() -> None:
    """Where there is nothing to post there is nothing to try again."""
    store, receiver = memory(), Receiver()
    await ended(store)
    with capture_logs() as logs:
        async with delivering(receiver, ForgetfulStore(store)):
            await quiet()
    assert await store.take_deliveries(1, 1.0) == []
    assert receiver.got == []
    assert [line["event"] for line in logs] == ["webhook of a turn that is no longer kept"]


async def test_an_answer_that_could_not_be_settled_is_delivered_again() -> None:
    """At least once: when the store does not take note, the receiver hears of it again."""
    store, receiver = memory(), Receiver()
    failing = FailingStore(store)
    failing.fail("settle", times=1)
    turn = await ended(store)
    async with delivering(receiver, failing):
        await quiet()
    assert receiver.ids == [turn.id, turn.id]
    first, second = receiver.times
    hold_s = CONFIG.webhook_timeout_s + SETTLE_S
    assert hold_s <= second - first <= hold_s + LOOK_S


async def test_looking_goes_on_when_the_store_is_back() -> None:
    """A store that does not answer delays webhooks, and ends nothing."""
    store, receiver = memory(), Receiver()
    failing = FailingStore(store)
    failing.fail("take_deliveries", times=3)
    await ended(store)
    async with delivering(receiver, failing):
        await receiver.tried(1)
    assert receiver.times == [3 * LOOK_S]


async def test_a_defect_of_the_store_does_not_end_the_looking() -> None:
    """What waits in the outbox does not wait for a restart, whatever went wrong."""
    store, receiver = memory(), Receiver()
    await ended(store)
    with capture_logs() as logs:
        async with delivering(receiver, DefectiveStore(store)):
            await receiver.tried(1)
    assert [line["event"] for line in logs] == ["looking for webhooks failed"]


async def test_closing_lets_a_try_end() -> None:
    """What is due and what is being tried gets the grace; afterwards nothing is tried."""
    store, receiver = memory(), Receiver()
    await ended(store)
    async with delivering(receiver, store, grace_s=5.0):
        pass
    assert len(receiver.got) == 1
    await quiet()
    assert len(receiver.got) == 1


async def test_what_closing_breaks_off_is_delivered_by_the_next() -> None:
    """A try that was broken off does not count, and is due again for the next process."""
    store, receiver = memory(), Receiver("slow")
    turn = await ended(store)
    with capture_logs() as logs:
        async with delivering(receiver, store, grace_s=1.0) as deliveries:
            await receiver.tried(1)
            assert repr(deliveries) == "<Deliveries [1 of 2]>"
    assert asyncio.get_running_loop().time() == 1.0
    assert [line["event"] for line in logs] == ["webhooks are left for later"]
    async with delivering(receiver, store):
        await quiet()
    assert receiver.ids == [turn.id, turn.id]


async def test_closing_twice_is_closing_once() -> None:
    """Whoever closes again finds nothing to do; neither does who never started."""
    receiver = Receiver()
    async with delivering(receiver, memory()) as deliveries:
        await deliveries.close(grace_s=1.0)
    unstarted = Deliveries(
        receiver, store=memory(), config=CONFIG, observers=Observers(), random=Random(1)
    )
    await unstarted.close(grace_s=1.0)


def pauses(config: PoolConfig, jitter: float) -> Iterator[float | None]:
    """What follows on each failed try."""
    for tries in range(1, config.webhook_tries + 1):
        yield next_try_in_s(tries, NotDelivered("x"), config, jitter=jitter)


def test_pauses_double_up_to_a_limit() -> None:
    """The schedule is a pure function of the number of tries."""
    config = PoolConfig(webhook_tries=6, webhook_first_s=2, webhook_max_s=10)
    assert list(pauses(config, 1.0)) == [2, 4, 8, 10, 10, None]
    assert list(pauses(config, 0.5)) == [1, 2, 4, 5, 5, None]


def test_the_defaults_go_on_for_half_a_day() -> None:
    """A receiver may be down over night without losing a webhook."""
    total_s = sum(filter(None, pauses(PoolConfig(), 0.75)))
    assert total_s > 12 * 3_600


def test_a_pause_that_is_asked_for_has_a_limit() -> None:
    """No receiver puts a webhook off for longer than `webhook_max_s`."""
    failure = NotDelivered("answered 503", retry_after_s=1e9)
    assert next_try_in_s(1, failure, PoolConfig(webhook_max_s=60), jitter=0.5) == 60


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("webhook_timeout_s", 0.0),
        ("webhook_parallel", 0),
        ("webhook_first_s", 0.0),
        ("webhook_max_s", 0.5),
        ("webhook_tries", 0),
    ],
)
def test_a_limit_out_of_range_is_a_mistake(option: str, value: float) -> None:
    """The options of webhooks are checked like all others."""
    with pytest.raises(ConfigError, match="webhook_"):
        PoolConfig(**{option: value})  # type: ignore[arg-type]


class Picky(Receiver):
    """Takes nothing that is for elsewhere."""

    def check(self, url: str) -> None:
        """Refuse all but one."""
        if url != URL:
            raise InvalidRequest("not there", field="webhook.url")


async def echo(text: str) -> str:
    """Say it back."""
    return text


async def test_a_pool_delivers_what_ended_in_it() -> None:
    """The turn is posted as it ended, at once, and without anybody waiting for it."""
    receiver = Receiver()
    async with AgentPool(echo, webhooks=receiver) as pool:
        turn = await pool.ask("hi", webhook=Webhook(URL))
        assert turn.output == "hi"
        await receiver.tried(1)
        await pool.ask("hi")
    assert receiver.ids == [turn.id]


async def test_closing_a_pool_delivers_what_its_end_ended() -> None:
    """A turn that the end of the pool interrupts has a webhook too."""

    async def slow(text: str) -> str:
        await asyncio.sleep(3_600)
        return text

    receiver = Receiver()
    async with AgentPool(slow, webhooks=receiver) as pool:
        turn = await pool.submit("hi", webhook=Webhook(URL))
    assert receiver.ids == [turn.id]


async def test_a_pool_refuses_webhooks_that_it_cannot_deliver() -> None:
    """Where nobody posts, or not to there, the turn is refused and leaves nothing behind."""
    async with AgentPool(echo) as pool:
        with pytest.raises(InvalidRequest, match="webhooks are not configured") as raised:
            await pool.ask("hi", session="s", webhook=Webhook(URL))
        assert raised.value.field == "webhook"
        assert (await pool.sessions()).items == []
    async with AgentPool(echo, webhooks=Picky()) as pool:
        with pytest.raises(InvalidRequest, match="not there"):
            await pool.ask("hi", session="s", webhook=Webhook("https://elsewhere.example/"))
        assert (await pool.sessions()).items == []
        await pool.ask("hi", session="s", webhook=Webhook(URL))
