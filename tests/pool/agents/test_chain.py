"""Models that fail, and those that are asked then; all on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from pool.agents.chain import worst
from pool.agents.conversation import ModelSaid, UserSaid
from pool.agents.model import Answer, BrokenOff, Emit, Prompt
from pool.agents.routing import Route, Routing
from pool.errors import (
    ContextTooLong,
    ModelUnusable,
    ProviderAuthentication,
    ProviderBadRequest,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
)
from pool.events import TextDelta
from tests.support.chained_models import (
    FailingModel,
    answered,
    chained,
    decided,
    gone,
    overloaded,
    shared,
)
from tests.support.chat_agents import entries_of, state_of
from tests.support.context import RecordingContext
from tests.support.scripted_model import calls, says

FROM_A = says("from a")
FROM_B = says("from b")


# --- retries


async def test_failed_call_is_made_again_and_readers_are_told():
    """A retry is an event with the reason; the answer is the model's own."""
    agent = chained(FailingModel(overloaded(), FROM_A), calls=shared(retries=2))

    _, ctx = await answered(agent)

    assert (ctx.text, decided(ctx)) == ("from a", [("retried", "a", "overloaded")])


async def test_what_was_begun_is_not_begun_again():
    """Once a piece of the answer was told neither a retry nor a fallback may repeat it."""
    broken = BrokenOff(overloaded())
    other = FailingModel(FROM_B)
    model = FailingModel(broken)
    agent = chained(model, other, calls=shared(retries=2), last_resort="sorry")

    ctx = RecordingContext()
    with pytest.raises(ProviderOverloaded):
        await answered(agent, ctx=ctx)

    assert (len(model.asked), other.asked, ctx.text, decided(ctx)) == (1, [], "half of", [])


async def test_retries_of_all_actors_draw_on_one_budget():
    """What one actor has used up, another does not have."""
    calls = shared(retries=2)
    models = [FailingModel(overloaded()) for _ in range(2)]
    for model in models:
        with pytest.raises(ProviderOverloaded):
            await answered(chained(model, calls=calls))

    assert [len(model.asked) for model in models] == [3, 1]


# --- fallbacks


@pytest.mark.parametrize("error", [overloaded(), gone(), ProviderRateLimited("429")], ids=repr)
async def test_next_model_is_asked_when_the_first_fails(error):
    """The failure is passed on, the reason told, and the usage names who really answered."""
    agent = chained(FailingModel(error), FailingModel(says("from b")))

    end, ctx = await answered(agent)

    assert (end.status, end.marks, ctx.text) == ("done", (), "from b")
    assert decided(ctx) == [("fell_back", "b", f"a: {error.detail}")]
    assert (ctx.usage.models, ctx.usage.input_tokens, ctx.usage.requests) == (("scripted",), 10, 1)


async def test_retries_come_before_the_fallback():
    """A model is given up when its retries are, and each step is told in order."""
    agent = chained(FailingModel(overloaded()), FailingModel(FROM_B), calls=shared(retries=1))

    _, ctx = await answered(agent)

    assert [step for step, _, _ in decided(ctx)] == ["retried", "fell_back"]


@pytest.mark.parametrize(
    "error", [ProviderBadRequest("wrong"), ProviderError("withheld")], ids=repr
)
async def test_what_would_be_the_same_elsewhere_is_not_passed_on(error):
    """A wrong request is wrong for every model."""
    other = FailingModel(FROM_B)

    with pytest.raises(type(error)):
        await answered(chained(FailingModel(error), other, last_resort="sorry"))
    assert other.asked == []


async def test_model_that_is_not_there_is_left_at_once():
    """Asked again it would not be there either; another one may be."""
    first = FailingModel(ModelUnusable("404"))
    agent = chained(first, FailingModel(FROM_B), calls=shared(retries=2))

    _, ctx = await answered(agent)

    assert (ctx.text, decided(ctx)) == ("from b", [("fell_back", "b", "a: 404")])
    assert len(first.asked) == 1


async def test_credentials_that_are_refused_may_do_elsewhere():
    """A model with other credentials is asked."""
    agent = chained(FailingModel(ProviderAuthentication("401")), FailingModel(FROM_B))

    _, ctx = await answered(agent)

    assert ctx.text == "from b"


@pytest.mark.parametrize(("tokens", "text"), [(0, ""), (1_000, "from b")])
async def test_conversation_that_is_too_long_goes_to_a_larger_window(tokens, text):
    """Only a model whose context is longer is asked."""
    agent = chained(FailingModel(ContextTooLong("long")), FailingModel(FROM_B), tokens=tokens)
    ctx = RecordingContext()

    if text:
        await answered(agent, ctx=ctx)
    else:
        with pytest.raises(ContextTooLong):
            await answered(agent, ctx=ctx)

    assert ctx.text == text


async def test_model_that_was_left_is_not_asked_again_in_the_turn():
    """The steps after a fallback stay with it; the next turn begins with the first again."""
    first = FailingModel(overloaded(), FROM_A)
    agent = chained(first, FailingModel(calls(("add", {"a": 1, "b": 2})), says("3")))

    end, ctx = await answered(agent)
    _, later = await answered(agent, state=state_of(end))

    assert (ctx.text, len(decided(ctx)), later.text) == ("3", 1, "from a")
    assert ctx.usage.requests == 2


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([overloaded(), gone()], ProviderOverloaded),
        ([gone(), overloaded()], ProviderOverloaded),
        ([overloaded(), ContextTooLong("long")], ProviderOverloaded),
        ([gone(), gone()], ProviderError),
        ([ModelUnusable("404"), gone()], ProviderError),
        ([ModelUnusable("404"), ModelUnusable("404")], ModelUnusable),
    ],
    ids=str,
)
async def test_overload_is_what_is_raised_when_all_failed(failures, told):
    """Whoever watches the provider learns of it, whichever model it was."""
    with pytest.raises(ProviderError) as failed:
        await answered(chained(*map(FailingModel, failures)))

    assert type(failed.value) is told


@pytest.mark.parametrize(
    ("failure", "told"), [(overloaded(), True), (gone(), False)], ids=["overload", "other"]
)
async def test_overload_is_told_although_another_model_answered(failure, told):
    """The end of the turn says whether a provider had too much, in retries and fallbacks alike."""
    models = FailingModel(failure, FROM_A), FailingModel(failure), FailingModel(FROM_B)
    retried, _ = await answered(chained(models[0], calls=shared(retries=1)))
    fell_back, _ = await answered(chained(*models[1:]))
    degraded, _ = await answered(chained(models[1], last_resort="sorry"))

    assert [end.overloaded for end in (retried, fell_back, degraded)] == [told] * 3


# --- circuit breakers


async def test_open_breaker_skips_the_model_at_once():
    """After enough failures in a row the model is not asked, until its time has come."""
    first = FailingModel(gone(), gone(), FROM_A)
    calls = shared(breaker_failures=2, breaker_reset_s=30.0)
    agent = chained(first, FailingModel(FROM_B), calls=calls)
    steps = []
    for _ in range(4):
        _, ctx = await answered(agent)
        steps.append([step for step, _, _ in decided(ctx)])

    assert steps == [["fell_back"], ["fell_back"], ["skipped"], ["skipped"]]
    assert (len(first.asked), calls.tripped) == (2, 1)

    await asyncio.sleep(30.0)
    _, ctx = await answered(agent)

    assert (ctx.text, decided(ctx), calls.tripped) == ("from a", [], 0)


async def test_half_open_breaker_lets_one_call_probe():
    """While one turn tries the model again, all others go on without it."""
    held = asyncio.Event()

    async def slow() -> object:
        await held.wait()
        return FROM_A

    first = FailingModel(gone(), slow)  # type: ignore[arg-type]
    calls = shared(breaker_failures=1)
    agents = [chained(first, FailingModel(FROM_B), calls=calls) for _ in range(5)]
    await answered(agents[0])
    await asyncio.sleep(30.0)

    turns = [asyncio.ensure_future(answered(agent)) for agent in agents]
    await asyncio.sleep(1.0)
    held.set()
    texts = [ctx.text for _, ctx in await asyncio.gather(*turns)]

    assert sorted(texts) == ["from a", *["from b"] * 4]
    assert (len(first.asked), calls.tripped) == (2, 0)


async def test_wrong_requests_do_not_open_a_breaker():
    """A provider that says no to what it was asked works."""
    first = FailingModel(ProviderBadRequest("wrong"))
    agent = chained(first, calls=shared(breaker_failures=1))
    for _ in range(3):
        with pytest.raises(ProviderBadRequest):
            await answered(agent)

    assert len(first.asked) == 3


async def test_model_that_is_not_there_opens_its_breaker():
    """It is not asked in vain in each turn."""
    first = FailingModel(ModelUnusable("404"))
    agent = chained(first, FailingModel(FROM_B), calls=shared(breaker_failures=2))
    for _ in range(3):
        _, ctx = await answered(agent)

    assert (len(first.asked), decided(ctx)[0][0]) == (2, "skipped")


async def test_answer_that_broke_off_counts_against_the_model():
    """Half an answer is a failure, although it was not tried again."""
    calls = shared(breaker_failures=1)
    with pytest.raises(ProviderError):
        await answered(chained(FailingModel(BrokenOff(gone())), calls=calls))

    assert calls.tripped == 1


async def test_cancelled_turn_says_nothing_of_the_model():
    """A probe that was cancelled leaves the breaker as it was."""
    first = FailingModel(gone(), asyncio.Event().wait)  # type: ignore[arg-type]
    calls = shared(breaker_failures=1)
    agent = chained(first, calls=calls)
    with pytest.raises(ProviderError):
        await answered(agent)
    await asyncio.sleep(30.0)

    turn = asyncio.ensure_future(answered(agent))
    await asyncio.sleep(1.0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn

    first.steps = [FROM_A]
    _, ctx = await answered(agent)
    assert (ctx.text, calls.tripped) == ("from a", 0)


async def test_models_that_are_all_left_alone_fail_with_when_to_come_back():
    """The turn fails as one that may be tried again, after the time that is left."""
    agent = chained(FailingModel(gone()), calls=shared(breaker_failures=1, breaker_reset_s=30.0))
    with pytest.raises(ProviderError, match="gone"):
        await answered(agent)
    await asyncio.sleep(10.0)

    ctx = RecordingContext()
    with pytest.raises(ProviderError, match="left alone for now") as failed:
        await answered(agent, ctx=ctx)

    assert (failed.value.retryable, failed.value.retry_after_s) == (True, 20.0)
    assert [(step, model) for step, model, _ in decided(ctx)] == [("skipped", "")]


async def test_retry_ends_when_the_breaker_opens():
    """A model whose breaker its own retry has opened is not asked a third time."""
    first = FailingModel(overloaded())
    agent = chained(first, FailingModel(FROM_B), calls=shared(retries=2, breaker_failures=2))

    _, ctx = await answered(agent)

    assert [step for step, _, _ in decided(ctx)] == ["retried", "fell_back"]
    assert len(first.asked) == 2


async def test_retry_that_the_providers_breaker_refuses_is_not_told():
    """It opened during the pause: what is not made is no retry, and takes no place in the pace."""
    calls = shared(retries=1, breaker_failures=2, retry_first_s=1.0, calls_max=10)
    first = FailingModel(overloaded(), FROM_A)
    turn = asyncio.ensure_future(answered(chained(first, FailingModel(FROM_B), calls=calls)))
    await asyncio.sleep(0.1)

    reach = calls.reach("at-a")
    assert reach is not None
    for _ in range(2):
        reach.enter().failed(gone())
    _, ctx = await turn

    assert ([step for step, _, _ in decided(ctx)], len(first.asked)) == (["skipped"], 1)
    assert asyncio.get_running_loop().time() <= 1.0


async def test_probe_that_has_begun_to_answer_lets_others_through():
    """A model that speaks works, however long it goes on."""
    held = asyncio.Event()

    class Long(FailingModel):
        async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
            if len(self.asked) == 1:
                await emit(TextDelta("long "))
                self.asked.append(0.0)
                await held.wait()
            return await super().ask(prompt, emit)

    first, calls = Long(gone(), FROM_A), shared(breaker_failures=1)
    agents = [chained(first, FailingModel(FROM_B), calls=calls) for _ in range(2)]
    await answered(agents[0])
    await asyncio.sleep(30.0)

    probe = asyncio.ensure_future(answered(agents[0]))
    await asyncio.sleep(1.0)
    _, other = await answered(agents[1])
    held.set()
    _, ctx = await probe

    assert (other.text, ctx.text, calls.tripped) == ("from a", "long from a", 0)


async def test_retry_that_a_breaker_would_refuse_is_not_waited_for():
    """Neither a pause nor one of the provider's retries is spent on it."""
    calls = shared(retries=2, breaker_failures=1, retry_first_s=5.0)
    first = FailingModel(overloaded())
    agent = chained(first, FailingModel(FROM_B), calls=calls)
    begun = asyncio.get_running_loop().time()

    _, ctx = await answered(agent)

    assert [step for step, _, _ in decided(ctx)] == ["fell_back"]
    assert asyncio.get_running_loop().time() == begun


# --- pacing


async def test_call_that_waits_for_its_pace_is_not_made_once_the_breaker_is_open():
    """What came up meanwhile holds for those that wait: nobody else finds it out anew."""

    async def slow() -> Answer:
        await asyncio.sleep(1.0)
        raise gone()

    model = FailingModel(slow)
    calls = shared(breaker_failures=1, calls_max=10, calls_window_s=20.0)
    agents = [chained(model, FailingModel(FROM_B), calls=calls) for _ in range(6)]

    told = await asyncio.gather(*(answered(agent) for agent in agents))

    assert [ctx.text for _, ctx in told] == ["from b"] * 6
    assert len(model.asked) == 1


async def test_call_that_a_breaker_refuses_takes_no_place():
    """Nobody waits in the pace of a model that is not asked then."""
    calls = shared(breaker_failures=1, calls_max=1, calls_window_s=20.0)
    agent = chained(FailingModel(gone()), calls=calls, last_resort="sorry")
    begun = asyncio.get_running_loop().time()

    steps = [decided((await answered(agent))[1])[0][0] for _ in range(3)]

    assert steps == ["degraded", "skipped", "skipped"]
    assert asyncio.get_running_loop().time() == begun


async def test_calls_of_all_actors_keep_one_pace():
    """Turns that come together are asked one after the other."""
    model, calls = FailingModel(FROM_A), shared(calls_max=2, calls_window_s=10.0)
    agents = [chained(model, calls=calls) for _ in range(4)]

    await asyncio.gather(*(answered(agent) for agent in agents))

    assert [round(each / 5) for each in model.asked] == [0, 1, 2, 3]


async def test_turn_that_cannot_wait_for_its_place_asks_the_next_model():
    """A place after the deadline is none."""
    calls = shared(calls_max=1, calls_window_s=60.0)
    agent = chained(FailingModel(FROM_A), FailingModel(FROM_B), calls=calls)
    await answered(agent)
    ctx = RecordingContext()
    ctx.deadline = 20.0

    await answered(agent, ctx=ctx)

    assert ctx.text == "from b"
    assert [step for step, _, _ in decided(ctx)] == ["fell_back"]


# --- the last resort


@pytest.mark.parametrize(
    "failures",
    [
        [overloaded()],
        [gone(), overloaded()],
        [ModelUnusable("404"), overloaded()],
        [overloaded(), ProviderAuthentication("401")],
    ],
    ids=str,
)
async def test_last_resort_answers_when_all_failed(failures):
    """The turn completes with the configured text, marked, and readers learn why."""
    agent = chained(*map(FailingModel, failures), last_resort="Sorry.")

    end, ctx = await answered(agent)

    assert (end.status, end.marks, ctx.text) == ("done", ("degraded",), "Sorry.")
    assert decided(ctx)[-1] == ("degraded", "", "overloaded")
    assert "usage" not in ctx.kinds


@pytest.mark.parametrize(
    "failures",
    [
        [overloaded(), ProviderBadRequest("wrong")],
        [ProviderAuthentication("401"), ContextTooLong("long")],
    ],
    ids=str,
)
async def test_last_resort_does_not_hide_what_is_wrong_with_the_request(failures):
    """A request that a model found wrong, or keys that none accepts, are for somebody to mend."""
    with pytest.raises(type(worst(failures))):
        await answered(chained(*map(FailingModel, failures), last_resort="Sorry."))


async def test_last_resort_is_nothing_that_a_model_said():
    """The next turn shows the model both questions, and no answer that it never gave."""
    first = FailingModel(overloaded(), FROM_A)
    agent = chained(first, last_resort="Sorry.")

    end, _ = await answered(agent, "one")
    _, ctx = await answered(agent, "two", state=state_of(end))

    assert entries_of(state_of(end)) == [UserSaid("one")]
    assert (ctx.text, first.prompts[-1]) == ("from a", [UserSaid("one"), UserSaid("two")])


async def test_last_resort_follows_what_was_said_before():
    """What the model said and did before it failed stays, also in the state."""
    asks = calls(("add", {"a": 1, "b": 2}), text="Let me see.")
    agent = chained(FailingModel(asks, overloaded()), last_resort="Sorry.")

    end, ctx = await answered(agent)

    assert ctx.text == "Let me see.\n\nSorry."
    assert [type(entry) for entry in entries_of(state_of(end))][1] is ModelSaid
    assert (end.marks, ctx.usage.requests) == (("degraded",), 1)


# --- routes and budgets


def routed(model: str) -> Routing:
    """Every turn is for this model."""
    return Routing((Route(model=model),))


async def test_turn_goes_to_the_model_that_a_rule_names():
    """Readers are told; the agent's own first model is not asked."""
    first, other = FailingModel(FROM_A), FailingModel(says("small"))
    agent = chained(first, others={"openai:small": other}, routing=routed("small"))

    _, ctx = await answered(agent)

    assert (ctx.text, first.asked) == ("small", [])
    assert decided(ctx) == [("routed", "openai:small", "route 1 fits")]


async def test_routed_turn_falls_back_as_any_other():
    """Behind the model that a rule chose come the agent's fallbacks, not its first."""
    first = FailingModel(FROM_A)
    agent = chained(
        first,
        FailingModel(FROM_B),
        others={"small": FailingModel(overloaded())},
        routing=routed("small"),
    )

    _, ctx = await answered(agent)

    assert (ctx.text, first.asked) == ("from b", [])


async def test_budget_goes_down_the_chain_and_never_up():
    """Behind the model that a budget wants come those that follow it in the chain."""
    first, second, third = FailingModel(FROM_A), FailingModel(overloaded()), FailingModel(says("c"))
    agent = chained(first, second, third, routing=routed("a"))

    _, ctx = await answered(agent, ctx=RecordingContext(model="b"))

    assert (ctx.text, first.asked) == ("c", [])
    assert [step for step, _, _ in decided(ctx)] == ["budget", "fell_back"]


async def test_budgets_model_that_is_not_in_the_chain_stands_alone():
    """Nothing dearer is asked in its place."""
    first = FailingModel(FROM_A)
    agent = chained(first, FailingModel(FROM_B), others={"cheap": FailingModel(overloaded())})

    with pytest.raises(ProviderOverloaded):
        await answered(agent, ctx=RecordingContext(model="cheap"))
    assert first.asked == []


async def test_budget_that_wants_the_model_there_is_decides_nothing():
    """An agent that is cheap already goes on, and nobody is told."""
    _, ctx = await answered(chained(FailingModel(FROM_A)), ctx=RecordingContext(model="a"))

    assert (ctx.text, decided(ctx)) == ("from a", [])


async def test_model_of_which_only_a_name_is_known_is_made_once_and_closed():
    """Its client is opened when it is first named, and closed with the agent."""
    from pool.agents.chain import Link

    made: list[FailingModel] = []

    def make(name: str) -> Link:
        made.append(FailingModel(says(name)))
        return Link(name, made[-1])

    agent = chained(FailingModel(FROM_A), make=make)
    await agent.open()
    for _ in range(2):
        _, ctx = await answered(agent, ctx=RecordingContext(model="cheap"))
    opened = [model.clients for model in made]
    await agent.close()

    assert (ctx.text, opened, [model.clients for model in made]) == ("cheap", [1], [0])


async def test_clients_are_closed_if_one_cannot_be_opened():
    """An agent that does not open leaves nothing open."""

    class Closed(FailingModel):
        async def open(self) -> None:
            raise OSError

    first = FailingModel(FROM_A)
    with pytest.raises(OSError):  # noqa: PT011 - the type is the point
        await chained(first, Closed(FROM_B)).open()

    assert first.clients == 0
