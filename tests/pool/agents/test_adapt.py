"""What may be given as an agent, and what is said about everything else."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator

import pytest

from pool.agent import Context, TurnEnd, TurnInput
from pool.agents.adapt import adapt
from pool.errors import AgentFailed, ConfigError
from pool.events import ReasoningDelta, TextDelta
from tests.support.context import RecordingContext


class Upper:
    """An agent by the protocol."""

    state_format = "upper/1"

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        return TurnEnd(output=turn.input.upper())

    async def close(self) -> None:
        self.closed += 1


class Shout:
    """A callable object."""

    async def __call__(self, text: str) -> str:
        return f"{text}!"


async def echo(text: str) -> str:
    """An async function."""
    return text


async def name_session(text: str, ctx: Context) -> str:
    """An async function of text and context."""
    return f"{ctx.session_id}: {text}"


async def words(text: str) -> AsyncIterator[str]:
    """An async generator."""
    for word in text.split():
        yield word


async def thoughts(text: str, ctx: Context) -> AsyncIterator[object]:
    """An async generator of more than text."""
    yield ReasoningDelta("hm")
    yield ""
    yield TextDelta(ctx.session_id)


async def answer(target: object, text: str = "hi") -> str:
    """What an agent made of `target` says."""
    ctx = RecordingContext()
    agent = adapt(target)()
    await agent.open()
    end = await agent.run(TurnInput(text), ctx)
    await agent.close()
    return end.output if end.output is not None else ctx.text


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (echo, "hi"),
        (name_session, "s1: hi"),
        (functools.partial(name_session), "s1: hi"),
        (words, "hi"),
        (Shout(), "hi!"),
        (Upper(), "HI"),
        (Upper, "HI"),
        (Shout, "hi!"),
        pytest.param(lambda: echo, "hi", id="factory of a function"),
        pytest.param(lambda: words, "hi", id="factory of a generator"),
        pytest.param(lambda: Upper(), "HI", id="factory of an agent"),
    ],
)
async def test_whatever_answers_text_is_an_agent(target, said):
    """Functions, generators, callable objects, agents and factories of them all answer a turn."""
    assert await answer(target) == said


@pytest.mark.real_time
@pytest.mark.parametrize(
    "target",
    [str.upper, lambda text: text.upper(), lambda: str.upper],
    ids=["method", "lambda", "factory"],
)
async def test_synchronous_function_is_an_agent(target):
    """A function that is not async answers from a thread."""
    assert await answer(target) == "HI"


async def test_context_is_passed_to_a_second_argument_called_ctx():
    """A second argument with a default is left alone unless it is called ctx."""

    async def with_ctx(text: str, ctx: Context | None = None) -> str:
        return "none" if ctx is None else ctx.session_id

    async def with_other(text: str, temperature: float = 0.5) -> str:
        return str(temperature)

    assert await answer(with_ctx) == "s1"
    assert await answer(with_other) == "0.5"


async def test_generator_emits_text_and_events_in_order():
    """Text becomes deltas, events are emitted as they are, and empty text is nothing."""
    ctx = RecordingContext()

    end = await adapt(thoughts)().run(TurnInput("hi"), ctx)

    assert ctx.kinds == ["reasoning.delta", "text.delta"]
    assert (end.status, end.output) == ("done", None)


async def test_function_emits_nothing():
    """The output of a plain function is left to the engine: one answer, not two."""
    ctx = RecordingContext()

    end = await adapt(echo)().run(TurnInput("hi"), ctx)

    assert (ctx.events, end.output) == ([], "hi")


async def test_factory_makes_one_instance_an_actor():
    """Each actor opens, runs and closes an instance of its own, with its state format."""
    made: list[Upper] = []

    def make() -> Upper:
        made.append(Upper())
        return made[-1]

    factory = adapt(make)
    first, second = factory(), factory()
    assert made == []
    await first.open()
    await second.open()
    await first.close()

    assert [(agent.opened, agent.closed) for agent in made] == [(1, 1), (1, 0)]
    assert first.state_format == "upper/1"


async def test_agent_object_is_shared_and_opened_by_every_actor():
    """An object that is an agent already is the same one for all, opened and closed for each."""
    shared = Upper()
    factory = adapt(shared)

    for agent in (factory(), factory()):
        await agent.open()
        await agent.close()

    assert (shared.opened, shared.closed) == (2, 2)


@pytest.mark.parametrize("value", [3, None, b"hi", ["hi"]])
async def test_what_is_not_text_fails_the_turn(value):
    """An agent that returns something else fails with its name and what it returned."""

    async def wrong(text: str) -> object:
        return value

    with pytest.raises(AgentFailed) as failed:
        await answer(wrong)

    kind = type(value).__name__
    assert str(failed.value) == f"agent wrong returned {kind}; an agent returns text"


async def test_generator_that_yields_what_is_not_text_fails_the_turn():
    """A generator that yields something else fails the same way."""

    async def wrong(text: str) -> AsyncIterator[object]:
        yield 3

    with pytest.raises(AgentFailed, match="agent wrong yielded int; an agent returns text"):
        await answer(wrong)


@pytest.mark.real_time
async def test_synchronous_function_that_returns_what_is_not_text_fails_the_turn():
    """So does a function in a thread."""
    with pytest.raises(AgentFailed, match="agent len returned int"):
        await answer(lambda: len)


async def async_factory() -> object:
    """A factory that has to be awaited."""
    return echo


async def three(one: str, two: str, three: str) -> str:
    """Too many arguments."""
    return one


async def by_name(text: str, *, model: str) -> str:
    """An argument that nobody gives."""
    return text


def generator(text: str) -> Iterator[str]:
    """A synchronous generator."""
    yield text


class NeedsModel:
    def __init__(self, model: str) -> None:
        self.model = model


class Opaque:
    __signature__ = "no signature"

    def __call__(self) -> None:
        """Callable, but nobody knows how."""


class OnlyRun:
    async def run(self) -> None:
        """Not enough of an agent."""


@pytest.mark.parametrize(
    ("target", "given", "remedy"),
    [
        (42, "int", "give an async function"),
        (None, "NoneType", "give an async function"),
        (async_factory, "async_factory", "a factory makes its agent at once"),
        (three, "three", "it needs 3 arguments"),
        (by_name, "by_name", "it needs model by name"),
        (generator, "generator", "write it with async def"),
        (NeedsModel, "NeedsModel", "the class needs arguments"),
        (OnlyRun(), "OnlyRun", "it has run but not state_format, open, close"),
        (Opaque(), "Opaque", "its parameters cannot be seen"),
        (print, "print", "print made NoneType"),
    ],
)
async def test_anything_else_is_refused(target, given, remedy):
    """The error names what was given and says what is accepted, at once or when the actor opens."""
    with pytest.raises(ConfigError) as refused:
        await answer(target)

    assert str(refused.value).startswith(f"agent = {given!r}: ")
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("made", "remedy"),
    [
        (3, "make made int: give an async function"),
        (OnlyRun(), "make made OnlyRun: it has run but not"),
        (Upper, "make made another factory, Upper: give that one itself"),
    ],
)
async def test_what_a_factory_makes_is_checked_when_the_actor_opens(made, remedy):
    """A factory that makes no agent is found out in open, with what it made."""

    def make() -> object:
        return made

    agent = adapt(make)()
    with pytest.raises(ConfigError) as refused:
        await agent.open()

    assert remedy in str(refused.value)


async def test_factory_that_makes_a_coroutine_is_refused():
    """A factory that is async in disguise is refused, and leaves no coroutine behind."""
    with pytest.raises(ConfigError, match="made coroutine"):
        await adapt(lambda: echo("hi"))().open()
