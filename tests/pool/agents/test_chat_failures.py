"""Providers that fail, and what answers then, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from pool.agents.calls import CallRules, ModelCalls
from pool.agents.chat import chat
from pool.agents.chat_agent import ChatAgent
from pool.agents.model_spec import ModelSpec
from pool.agents.routing import Route
from pool.errors import ProviderBadRequest, ProviderError, ProviderOverloaded
from pool.telemetry.metrics import Metrics
from pool.turn import TurnRequest
from tests.support.agents import pooled
from tests.support.chained_models import answered, decided
from tests.support.context import RecordingContext
from tests.support.model_server import ModelServer, Reply, chunk

pytestmark = pytest.mark.real_time

OVERLOADED = b'data: {"error": {"code": 529}}\n\n'


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(
    count: int, *servers: ModelServer, **options: Any
) -> AsyncIterator[list[ChatAgent]]:
    """So many actors' agents, which ask model a of the first server, then b of the second."""
    first, *rest = servers
    names = iter("bcd")
    factory = chat(
        "openai:a",
        base_url=first.url,
        api_key="key-a",
        fallbacks=[
            ModelSpec(model=f"openai:{next(names)}", base_url=each.url, api_key="key-b")
            for each in rest
        ],
        **options,
    )
    agents = [factory() for _ in range(count)]
    for agent in agents:
        await agent.open()
    try:
        yield agents
    finally:
        for agent in agents:
            await agent.close()


def context(**options: Any) -> RecordingContext:
    """A turn with a minute left."""
    ctx = RecordingContext(**options)
    ctx.deadline = ctx.clock() + 60.0
    return ctx


async def test_provider_breaks_and_comes_back():
    """A is shut down: B answers, at last without asking A. A returns: one probe finds it."""
    held = asyncio.Event()
    a = ModelServer([Reply(text="from a"), Reply(text="again a", hold=held), Reply(text="a")])
    clock = HandClock()
    calls = ModelCalls(CallRules(breaker_failures=2, breaker_reset_s=30.0), clock=clock)
    async with (
        a,
        ModelServer(lambda asked: Reply(text="from b")) as b,
        opened(4, a, b, calls=calls) as agents,
    ):
        _, ctx = await answered(agents[0])
        assert (ctx.text, decided(ctx)) == ("from a", [])

        port = urlsplit(a.url).port
        assert port is not None
        await a.stop()
        steps = []
        for _ in range(3):
            _, ctx = await answered(agents[0])
            steps.append((ctx.text, *decided(ctx)[0][:2]))
        assert steps == [
            ("from b", "fell_back", "openai:b"),
            ("from b", "fell_back", "openai:b"),
            ("from b", "skipped", "openai:b"),
        ]
        # the model, and the provider that cannot be reached
        assert calls.tripped == 2

        await a.start(port)
        clock.now = 30.0
        probe = asyncio.ensure_future(answered(agents[0]))
        await a.until(lambda seen: seen.open == 1)
        others = [await answered(agent) for agent in agents[1:]]
        assert [(ctx.text, decided(ctx)[0][0]) for _, ctx in others] == [("from b", "skipped")] * 3
        assert (len(a.requests), calls.tripped) == (2, 1)

        held.set()
        _, ctx = await probe
        assert (ctx.text, decided(ctx), calls.tripped) == ("again a", [], 0)
        _, ctx = await answered(agents[1])
        assert (ctx.text, len(a.requests)) == ("a", 3)
        await a.stop()


async def test_keys_stay_with_their_providers():
    """A fallback elsewhere gets its own key, and none of the first one's options."""
    async with (
        ModelServer([Reply(status=503)]) as a,
        ModelServer([Reply(text="b")]) as b,
        opened(1, a, b, options={"temperature": 0.1}) as (agent,),
    ):
        await answered(agent)

    assert [each.headers[0]["Authorization"] for each in (a, b)] == ["Bearer key-a", "Bearer key-b"]
    assert [each.requests[0]["model"] for each in (a, b)] == ["a", "b"]
    assert [each.requests[0].get("temperature") for each in (a, b)] == [0.1, None]


async def test_key_does_not_follow_to_another_address():
    """A fallback elsewhere without a key of its own is asked without credentials."""
    async with ModelServer([Reply(status=503)]) as a, ModelServer([Reply(text="b")]) as b:
        spec = ModelSpec(model="openai:b", base_url=b.url)
        agent = chat("openai:a", base_url=a.url, api_key="key-a", fallbacks=[spec])()
        await agent.open()
        await answered(agent)
        await agent.close()

    assert "Authorization" not in b.headers[0]


async def test_pause_that_the_provider_asks_for_is_kept():
    """A 429 with Retry-After is tried again after that time, on the same connection."""
    refused = Reply(status=429, headers={"Retry-After-Ms": "50"})
    rules = CallRules(retries=1, retry_first_s=0.001, retry_max_s=1.0)
    async with ModelServer([refused, Reply(text="a")]) as a, opened(1, a, calls=rules) as (agent,):
        ctx = context()
        begun = ctx.clock()
        await answered(agent, ctx=ctx)

    assert ctx.clock() - begun >= 0.05
    assert (ctx.text, [step for step, _, _ in decided(ctx)]) == ("a", ["retried"])


async def test_provider_that_asks_for_too_long_a_pause_is_left():
    """Nobody waits an hour: the next model is asked at once."""
    refused = Reply(status=429, headers={"Retry-After": "3600"})
    async with (
        ModelServer([refused]) as a,
        ModelServer([Reply(text="b")]) as b,
        opened(1, a, b, calls=CallRules(retries=2)) as (agent,),
    ):
        _, ctx = await answered(agent, ctx=context())

    assert (ctx.text, len(a.requests)) == ("b", 1)


@pytest.mark.parametrize("first", [{"content": "once upon"}, {"reasoning_content": "hm"}], ids=str)
@pytest.mark.parametrize(
    ("then", "breaks"),
    [(b": silence\n\n", True), (b": silence\n\n", False), (OVERLOADED, False)],
    ids=["reset", "unfinished", "error"],
)
async def test_answer_that_broke_off_is_not_told_twice(first, then, breaks):
    """What readers saw of an answer stands; neither a retry nor a fallback begins it anew."""
    seen = asyncio.Event()
    broken = Reply(raw=[chunk(first), then], hold=seen, breaks=breaks)
    async with (
        ModelServer([broken]) as a,
        ModelServer() as b,
        opened(1, a, b, calls=CallRules(retries=1), last_resort="sorry") as (agent,),
    ):
        ctx = context()
        turn = asyncio.ensure_future(answered(agent, ctx=ctx))
        await ctx.until(len)
        seen.set()
        with pytest.raises(ProviderError) as failed:
            await turn

    assert failed.value.retryable
    assert (len(a.requests), b.requests, decided(ctx)) == (1, [], [])


ODD_STREAMS = {
    # how a stream goes on that has not ended well: what it says then, how often model a is asked
    "error": ([OVERLOADED], 2),
    "unknown error": ([b'data: {"error": "it broke"}\n\n'], 2),
    "empty": ([], 2),
    "done alone": ([b"data: [DONE]\n\n"], 2),
    "gave up": ([chunk({}, "error"), b"data: [DONE]\n\n"], 2),
    "unfinished": ([chunk({"role": "assistant", "content": ""})], 2),
    "cut json": ([b'data: {"choices": [{"del\n\n'], 2),
    "other json": ([b'data: {"choices": "what"}\n\n'], 1),
    "model not found": ([b'data: {"error": {"code": "model_not_found"}}\n\n'], 1),
}


@pytest.mark.parametrize(("raw", "asked"), ODD_STREAMS.values(), ids=ODD_STREAMS.keys())
async def test_odd_stream_of_which_nothing_was_told_goes_on_to_the_next_model(raw, asked):
    """What may pass is tried again at the same model first; what would not is left at once."""
    rules = CallRules(retries=1, retry_first_s=0.001, retry_max_s=0.01)
    async with (
        ModelServer(lambda asked: Reply(raw=raw)) as a,
        ModelServer([Reply(text="from b")]) as b,
        opened(1, a, b, calls=rules) as (agent,),
    ):
        _, ctx = await answered(agent, ctx=context())

    assert (ctx.text, len(a.requests), decided(ctx)[-1][0]) == ("from b", asked, "fell_back")


# all that do not end an answer of which something came
BROKEN_STREAMS = {name: raw for name, (raw, _) in ODD_STREAMS.items() if name != "done alone"}


@pytest.mark.parametrize("raw", BROKEN_STREAMS.values(), ids=BROKEN_STREAMS.keys())
async def test_odd_stream_of_which_something_was_told_fails_the_turn(raw):
    """What readers saw cannot be taken back: neither model says it once more."""
    seen = asyncio.Event()
    reply = Reply(raw=[chunk({"content": "once upon"}), *raw], hold=seen)
    async with (
        ModelServer([reply]) as a,
        ModelServer() as b,
        opened(1, a, b, calls=CallRules(retries=1), last_resort="sorry") as (agent,),
    ):
        ctx = context()
        turn = asyncio.ensure_future(answered(agent, ctx=ctx))
        await ctx.until(len)
        seen.set()
        with pytest.raises(ProviderError):
            await turn

    assert (ctx.text, len(a.requests), b.requests, decided(ctx)) == ("once upon", 1, [], [])


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(status=404, body=b'{"error": {"code": "model_not_found"}}'), "from b"),
        (Reply(status=404), "from b"),
        (Reply(status=307, headers={"Location": "http://127.0.0.1:9/"}), "from b"),
        (Reply(raw=[b"<html>"], headers={"Content-Type": "text/html"}), "from b"),
        (Reply(status=400), ""),
        (Reply(status=422, body=b'{"detail": []}'), ""),
    ],
    ids=["model", "path", "elsewhere", "page", "wrong", "invalid"],
)
async def test_model_that_is_not_there_is_no_wrong_request(reply, text):
    """The next model is asked in place of one that is not there; nobody what is wrong anyway."""
    async with (
        ModelServer([reply]) as a,
        ModelServer(lambda asked: Reply(text="from b")) as b,
        opened(1, a, b, calls=CallRules(retries=2)) as (agent,),
    ):
        ctx = context()
        if text:
            await answered(agent, ctx=ctx)
        else:
            with pytest.raises(ProviderBadRequest):
                await answered(agent, ctx=ctx)

    assert (ctx.text, len(b.requests)) == (text, int(bool(text)))


async def test_connection_that_breaks_before_anything_was_said_is_tried_again():
    """An answer of which nobody has seen anything may begin anew."""
    rules = CallRules(retries=1, retry_first_s=0.001, retry_max_s=0.01)
    replies = [Reply(raw=[], breaks=True), Reply(text="whole")]
    async with ModelServer(replies) as a, opened(1, a, calls=rules) as (agent,):
        _, ctx = await answered(agent, ctx=context())

    assert (ctx.text, ctx.usage.requests) == ("whole", 2)


async def test_models_of_one_provider_share_its_address_and_key():
    """A fallback that is only a name, and a model that only a budget names, are asked there."""
    async with ModelServer(
        lambda asked: Reply(status=503) if asked["model"] == "a" else Reply(text=asked["model"])
    ) as server:
        agent = chat(
            "openai:a",
            base_url=server.url,
            api_key="k",
            fallbacks=["openai:b"],
            routes=[Route(model="openai:c", complexity="low")],
        )()
        await agent.open()
        _, fell = await answered(agent)
        _, cheap = await answered(agent, ctx=context(model="mini"))
        hinted = TurnRequest(input="hi", complexity="low")
        _, routed = await answered(agent, ctx=context(request=hinted))
        await agent.close()

    assert [fell.text, cheap.text, routed.text] == ["b", "mini", "c"]
    assert [decided(ctx)[0][:2] for ctx in (fell, cheap, routed)] == [
        ("fell_back", "openai:b"),
        ("budget", "openai:mini"),
        ("routed", "openai:c"),
    ]
    assert {each["Authorization"] for each in server.headers} == {"Bearer k"}


async def test_pool_marks_a_degraded_answer_and_counts_decisions():
    """A turn that the last resort answered completes, is marked, and is seen in the metrics."""
    metrics = Metrics(["chat"])
    async with ModelServer(lambda asked: Reply(status=503)) as a:
        agent = chat(
            "openai:a",
            base_url=a.url,
            fallbacks=["openai:b"],
            last_resort="Please come back later.",
            calls=CallRules(breaker_failures=1),
        )
        metrics.watch_breakers("chat", lambda: agent.calls.tripped)
        async with pooled(agent, observers=[metrics]) as pool:
            turn = await pool.ask("hi")
            again = await pool.ask("hi", session=turn.session_id)

    assert (turn.state, turn.output, turn.marks) == (
        "completed",
        "Please come back later.",
        ("degraded",),
    )
    assert (again.marks, len(a.requests)) == (("degraded",), 2)
    page = metrics.page()[0].decode()
    assert 'actorpool_model_decisions_total{agent="chat",step="degraded"} 2.0' in page
    assert 'actorpool_model_decisions_total{agent="chat",step="fell_back"} 1.0' in page
    assert 'actorpool_model_decisions_total{agent="chat",step="skipped"} 2.0' in page
    assert 'actorpool_model_breakers_tripped{agent="chat"} 2.0' in page


async def test_without_a_last_resort_the_turn_fails_as_before():
    """The error that reaches whoever asked is the provider's overload."""
    async with (
        ModelServer([Reply(status=529)]) as a,
        ModelServer([Reply(status=400)]) as b,
        opened(1, a, b) as (agent,),
    ):
        with pytest.raises(ProviderOverloaded):
            await answered(agent)


async def test_silent_model_does_not_take_its_provider_along():
    """Silence is one model's: another one of the same provider is asked all the same."""
    held = asyncio.Event()

    class Silent(ModelServer):
        async def _stream(self, request: Any, reply: Reply, chunks: Any) -> Any:
            if reply.hold is not None:
                await reply.hold.wait()
            return await super()._stream(request, reply, chunks)

    async with Silent(
        lambda asked: Reply(hold=held) if asked["model"] == "a" else Reply(text="from b")
    ) as server:
        calls = CallRules(breaker_failures=1)
        agent = chat(
            "openai:a", base_url=server.url, fallbacks=["openai:b"], timeout_s=0.1, calls=calls
        )()
        await agent.open()
        _, ctx = await answered(agent)
        held.set()
        await agent.close()

    assert (ctx.text, decided(ctx)[0][:2]) == ("from b", ("fell_back", "openai:b"))


@pytest.mark.parametrize("model", ["qwen2.5:7b", "ft:gpt-4o-mini:org::id"])
@pytest.mark.parametrize("name", ["", "cheap"])
async def test_answer_that_was_cut_is_counted_for_the_model_that_gave_it(model, name):
    """By the name that its provider has for it: by another one it has no price, or a wrong one."""
    broken = Reply(raw=[chunk({"content": "once upon"})], breaks=True)
    async with ModelServer(
        lambda asked: broken if asked["model"] == model else Reply(status=503)
    ) as server:
        spec = ModelSpec(model=f"openai:{model}", name=name)
        agent = chat("openai:a", base_url=server.url, fallbacks=[spec])()
        await agent.open()
        ctx = context()
        with pytest.raises(ProviderError):
            await answered(agent, ctx=ctx)
        await agent.close()

    assert ctx.usage.models == (model,)
