"""Requests that were sent and had no answer: each counts, and what it may have cost is charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pool import AgentPool
from pool.agent import TurnInput
from pool.agents.calls import CallRules
from pool.agents.chat import ChatFactory, chat
from pool.agents.model_spec import ModelSpec
from pool.agents.sse import EventData
from pool.events import ModelDecided
from pool.guard.budget import Budget
from pool.guard.ledger import CostConfig
from pool.guard.prices import Price
from pool.turn import Turn
from tests.support.agents import pooled, ticks
from tests.support.chat_over_http import add
from tests.support.context import RecordingContext
from tests.support.model_server import ModelServer, Reply, chunk

pytestmark = pytest.mark.real_time

SHARE = 500
BUDGETS = (
    Budget(name="tokens", tokens=100_000, reserve_tokens=SHARE),
    Budget(name="money", usd=10, reserve_usd=0.5),
)
COST = CostConfig(prices={"*": Price(input=1, output=1)}, budgets=BUDGETS)
FAST = CallRules(retries=2, retry_first_s=0.001, retry_max_s=0.01)


class Silent(ModelServer):
    """A provider that reads each request and never says anything."""

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self._count(opened=1)
        try:
            await asyncio.Event().wait()
        finally:
            self._count(opened=-1)
        raise AssertionError


@asynccontextmanager
async def asking(server: ModelServer, *others: ModelServer, **options: Any) -> AsyncIterator[Any]:
    """A pool whose agent asks model a of the server, then b, c ... of the others."""
    more = [
        ModelSpec(model=f"openai:{'bc'[n]}", base_url=each.url) for n, each in enumerate(others)
    ]
    factory: ChatFactory = chat("openai:a", base_url=server.url, fallbacks=more, **options)
    async with pooled(factory, cost=COST) as pool:
        yield pool


async def charged(pool: AgentPool, turn_id: str) -> tuple[Turn, list[int]]:
    """The turn at its end, and what the budgets count: tokens, and money in micro-USD."""
    turn = await pool.wait(turn_id)
    lines = await pool.ledger.budgets.standing(turn)
    assert not any(line.reserved for line in lines)
    return turn, [line.spent for line in lines]


def context() -> RecordingContext:
    """A turn with a minute left."""
    ctx = RecordingContext()
    ctx.deadline = ctx.clock() + 60.0
    return ctx


def taken(monkeypatch: pytest.MonkeyPatch, size: int) -> asyncio.Event:
    """Set as soon as so many bytes of answers have been taken."""
    event, feed, left = asyncio.Event(), EventData.feed, size

    def feed_and_count(self: EventData, data: bytes) -> list[bytes]:
        nonlocal left
        left -= len(data)
        if left <= 0:
            event.set()
        return feed(self, data)

    monkeypatch.setattr(EventData, "feed", feed_and_count)
    if not size:
        event.set()
    return event


ARGUMENTS = [
    chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "add", "arguments": text}}]})
    for text in ("{", "x" * 4_000)
]


@pytest.mark.parametrize("how", ["cancelled", "expired"])
@pytest.mark.parametrize(
    ("replies", "output"),
    [
        (None, 1),
        ([Reply(raw=[b": thinking\n\n", b""], hold=True)], 1),
        ([Reply(raw=[b"".join(ARGUMENTS), b""], hold=True)], 1_001),
    ],
    ids=["silent", "hidden reasoning", "arguments"],
)
async def test_a_turn_that_is_cut_before_any_text_is_charged(
    how: str, replies: list[Reply] | None, output: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its provider has the request and charges for it: one request, and what was set aside at
    least.
    """
    sent = sum(len(data) for each in replies or () for data in each.raw or ())
    arrived = taken(monkeypatch, sent)
    server: ModelServer = Silent()
    if replies is not None:
        held = [Reply(raw=each.raw, hold=asyncio.Event()) for each in replies]
        server = ModelServer(held)
    options: dict[str, Any] = {"deadline_s": 1} if how == "expired" else {}
    async with server, asking(server, tools=[add]) as pool:
        accepted = await pool.submit("x" * 400, **options)
        await server.until(lambda seen: seen.open == 1)
        if how == "cancelled":
            await arrived.wait()
            await pool.cancel(accepted.id)
        turn, (tokens, micro) = await charged(pool, accepted.id)

    assert (turn.state, turn.usage.requests, turn.usage.models) == (how, 1, ("a",))
    assert 100 <= turn.usage.input_tokens < 120
    assert turn.usage.output_tokens == output
    assert (tokens, micro) == (max(SHARE, turn.usage.input_tokens + output), 500_000)


async def test_a_request_that_never_reached_its_provider_is_none() -> None:
    """Its connection was refused: nothing is counted, nothing charged."""
    async with ModelServer() as server:
        pass
    async with asking(server) as pool:
        turn, spent = await charged(pool, (await pool.submit("hi")).id)
    assert (turn.state, turn.usage.requests, spent) == ("failed", 0, [0, 0])


async def test_a_turn_that_is_cancelled_while_it_connects_has_sent_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name of its provider was still being looked up."""
    looked_up = asyncio.Event()

    async def hang(*_: Any, **__: Any) -> Any:
        looked_up.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", hang)
    async with pooled(chat("openai:a", base_url="http://provider.invalid/v1"), cost=COST) as pool:
        accepted = await pool.submit("hi")
        await looked_up.wait()
        await pool.cancel(accepted.id)
        turn, spent = await charged(pool, accepted.id)
    assert (turn.state, turn.usage.requests, spent) == ("cancelled", 0, [0, 0])


async def test_a_turn_that_waits_for_its_pace_has_sent_nothing() -> None:
    """Cancelled before it was its turn to call, it costs nothing."""
    rules = CallRules(calls_max=1, calls_window_s=3_600)
    async with ModelServer() as server, asking(server, calls=rules) as pool:
        await charged(pool, (await pool.submit("one")).id)
        accepted = await pool.submit("two", deadline_s=80_000)
        # there is nothing to wait for but the pace
        await ticks(100)
        assert (await pool.turn(accepted.id)).state == "running"
        await pool.cancel(accepted.id)
        turn, spent = await charged(pool, accepted.id)
        assert len(server.requests) == 1
    assert (turn.state, turn.usage.requests, spent) == ("cancelled", 0, [120, 120])


async def test_a_turn_that_a_breaker_refuses_has_sent_nothing() -> None:
    """The first found the provider silent, and is charged; the second did not ask it."""
    rules = CallRules(breaker_failures=1)
    async with Silent() as server, asking(server, calls=rules, timeout_s=0.1) as pool:
        first, _ = await charged(pool, (await pool.submit("one")).id)
        second, spent = await charged(pool, (await pool.submit("two")).id)
        assert len(server.requests) == 1
    assert (first.usage.requests, second.usage.requests) == (1, 0)
    assert spent == [SHARE, 500_000]


async def test_each_request_of_a_chain_counts() -> None:
    """A model that was silent, one that broke off, each three times, and the one that answered;
    what nobody says is estimated.
    """
    async with (
        Silent() as a,
        ModelServer([Reply(raw=[b": yes\n\n"], breaks=True)] * 3) as b,
        ModelServer([Reply(text="from c")]) as c,
        asking(a, b, c, calls=FAST, timeout_s=0.1) as pool,
    ):
        turn, (tokens, micro) = await charged(pool, (await pool.submit("x" * 400)).id)
        asked = sum(len(each.requests) for each in (a, b, c))

    assert (turn.output, turn.usage.requests, asked) == ("from c", 7, 7)
    assert turn.usage.models == ("a", "b", "test-1")
    read, said = divmod(turn.usage.input_tokens - 100, asked - 1)
    assert 100 <= read < 120 and said == 0
    assert turn.usage.output_tokens == 20 + asked - 1
    assert tokens == micro == turn.usage.input_tokens + turn.usage.output_tokens


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_a_request_that_was_refused_counts_and_costs_nothing(status: int) -> None:
    """Its provider has said that it did nothing: an outage empties no budget."""
    async with ModelServer([Reply(status=status)]) as server, asking(server) as pool:
        turn, spent = await charged(pool, (await pool.submit("hi")).id)
    assert (turn.state, turn.usage.requests, turn.usage.cost_usd) == ("failed", 1, 0.0)
    assert spent == [0, 0]


async def test_a_gateway_that_gave_up_waiting_has_refused_nothing() -> None:
    """What was done behind it nobody says: it is charged."""
    async with ModelServer([Reply(status=504)]) as server, asking(server) as pool:
        turn, spent = await charged(pool, (await pool.submit("hi")).id)
    assert (turn.usage.requests, spent) == (1, [SHARE, 500_000])


async def test_what_a_refusal_leaves_open_its_successor_says() -> None:
    """A model that refused, and one that answered: two requests, the price of the second."""
    async with (
        ModelServer([Reply(status=503)]) as a,
        ModelServer([Reply(text="from b")]) as b,
        asking(a, b) as pool,
    ):
        turn, spent = await charged(pool, (await pool.submit("hi")).id)
    assert (turn.usage.requests, turn.usage.models) == (2, ("test-1",))
    assert spent == [120, 120]


async def test_the_last_resort_answers_for_what_was_asked_in_vain() -> None:
    """The turn is completed by no model, and charged for the one that was asked."""
    async with (
        Silent() as server,
        asking(server, timeout_s=0.1, last_resort="Sorry.") as pool,
    ):
        turn, _ = await charged(pool, (await pool.submit("x" * 400)).id)
    assert (turn.output, turn.usage.requests) == ("Sorry.", 1)
    assert turn.usage.input_tokens >= 100


async def test_an_answer_that_is_longer_than_it_may_be_is_counted() -> None:
    """The turn fails; what it had heard by then was paid for all the same."""
    said = [chunk({"content": "x" * 600}) for _ in range(4)]
    async with ModelServer([Reply(raw=said)]) as server:
        agent = chat("openai:a", base_url=server.url)
        async with pooled(agent, cost=COST, max_output_bytes=1_000) as pool:
            turn, spent = await charged(pool, (await pool.submit("hi")).id)
    assert (turn.state, turn.usage.requests) == ("failed", 1)
    assert turn.usage.output_tokens > 250
    assert spent[0] >= SHARE


async def test_requests_without_an_answer_are_no_steps() -> None:
    """Those that are made again leave an agent its steps, and its calls their names."""
    replies = [Reply(raw=[], breaks=True), Reply(calls=[("add", {"a": 1, "b": 2})])]
    replies += [Reply(raw=[], breaks=True), Reply(text="3")]
    async with ModelServer(replies) as server:
        agent = chat("openai:a", base_url=server.url, tools=[add], max_steps=2, calls=FAST)()
        ctx = context()
        await agent.open()
        end = await agent.run(TurnInput("hi"), ctx)
        await agent.close()
    assert (end.status, ctx.text, ctx.usage.requests) == ("done", "3", 4)
    assert [call.call_id for call in ctx.asked] == ["s1c0"]
    retried = [each for each in ctx.events if isinstance(each, ModelDecided)]
    assert [each.step for each in retried] == ["retried", "retried"]


async def test_a_turn_goes_on_with_the_steps_that_it_has_left() -> None:
    """How many of its requests had no answer is in its checkpoint."""
    replies = [Reply(raw=[], breaks=True), Reply(calls=[("add", {"a": 1, "b": 2})])]
    replies += [Reply(text="3"), Reply(text="three")]
    async with ModelServer(replies) as server:
        agent = chat("openai:a", base_url=server.url, tools=[add], max_steps=2, calls=FAST)()
        ctx = context()
        await agent.open()
        await agent.run(TurnInput("hi"), ctx)
        again = context()
        end = await agent.run(TurnInput("hi", state=ctx.checkpoints[0], resume=True), again)
        await agent.close()
    assert (end.status, again.text, again.usage.requests) == ("done", "three", 3)
