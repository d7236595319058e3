"""Chat agents with several scripted models, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from pool.agent import TurnEnd, TurnInput
from pool.agents.calls import CallRules, ModelCalls
from pool.agents.chain import Chain, Link
from pool.agents.chat_agent import ChatAgent
from pool.agents.model import Answer, BrokenOff, Emit, Prompt
from pool.agents.toolbox import Toolbox
from pool.agents.tools import read_tools
from pool.errors import ProviderError, ProviderOverloaded
from pool.events import ModelDecided, TextDelta
from tests.support.chat_agents import add
from tests.support.context import RecordingContext

# What a model does when it is asked: it fails, answers, or runs.
Step = Answer | Exception | Callable[[], Awaitable[Answer]]


class FailingModel:
    """Implements `pool.agents.model.Model`: follows its steps, then repeats the last one.

    `asked` are the times, on the loop's clock, at which it was.
    """

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[float] = []
        self.prompts: list[list[Any]] = []
        self.clients = 0

    async def open(self) -> None:
        """Count it."""
        self.clients += 1

    async def close(self) -> None:
        """Count it."""
        self.clients -= 1

    async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
        """Do the next step."""
        self.asked.append(asyncio.get_running_loop().time())
        self.prompts.append(list(prompt.entries))
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, BrokenOff):
            await emit(TextDelta("half of"))
        if isinstance(step, Exception):
            raise step
        answer = step if isinstance(step, Answer) else await step()
        if answer.text:
            await emit(TextDelta(answer.text))
        return answer


def overloaded(retry_after_s: float | None = None) -> ProviderOverloaded:
    """The provider has too much to do."""
    return ProviderOverloaded("overloaded", retry_after_s=retry_after_s)


def gone() -> ProviderError:
    """The provider cannot be reached: no overload, and retryable."""
    error = ProviderError("gone")
    error.retryable = True
    return error


def shared(**rules: Any) -> ModelCalls:
    """What models that are called by these rules share."""
    return ModelCalls(CallRules(**rules), random=Random(3))


def chained(
    *models: FailingModel, calls: ModelCalls | None = None, tokens: int = 0, **more: Any
) -> ChatAgent:
    """An agent with these models: a, b, c ... each at a provider of its own. `tokens`: how much
    longer the context of each further one is. `more`: see `Chain`.
    """
    calls = shared() if calls is None else calls

    def link(name: str, model: FailingModel, context_tokens: int = 1_000) -> Link:
        guard = calls.guard(f"at-{name}", name)
        return Link(name, model, guard, ("at", name), context_tokens, asked_as=name)

    own = [link("abc"[place], model, 1_000 + place * tokens) for place, model in enumerate(models)]
    others = [link(name, model) for name, model in more.pop("others", {}).items()]
    chain = Chain(own, others=others, **more)
    return ChatAgent(chain, Toolbox(read_tools([add]), 8), window_tokens=10_000)


async def answered(
    agent: ChatAgent, text: str = "hi", ctx: RecordingContext | None = None, **turn: Any
) -> tuple[TurnEnd, RecordingContext]:
    """Run one turn."""
    ctx = RecordingContext() if ctx is None else ctx
    return await agent.run(TurnInput(text, **turn), ctx), ctx


def decided(ctx: RecordingContext) -> list[tuple[str, str, str]]:
    """What readers were told of the models."""
    return [
        (each.step, each.model, each.reason)
        for each in ctx.events
        if isinstance(each, ModelDecided)
    ]
