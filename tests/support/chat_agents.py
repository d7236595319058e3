"""Chat agents with a scripted model, their tools and gates."""

from __future__ import annotations

from typing import Any

from pool.agent import ALLOW, Decision, ToolCall, TurnEnd
from pool.agents.chat_agent import ChatAgent
from pool.agents.conversation import Conversation
from pool.agents.model import Answer
from pool.agents.toolbox import Toolbox
from pool.agents.tools import read_tools
from tests.support.context import RecordingContext
from tests.support.scripted_model import ScriptedModel


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def delete(name: str) -> str:
    """Delete something."""
    return f"deleted {name}"


async def fail(secret: str) -> str:
    """Raise what it was given."""
    raise ValueError(secret)


def ask_for(*names: str) -> Any:
    """A policy that asks a human about these tools."""
    return lambda call: Decision("ask", risk="dangerous") if call.name in names else ALLOW


def deny(call: ToolCall) -> Decision:
    """A policy that denies everything."""
    return Decision("deny", "not on Sundays")


def agent_of(
    *answers: Answer | Exception, tools: Any = (add, delete, fail), **more: Any
) -> ChatAgent:
    """An agent whose model has this script."""
    return agent_with(ScriptedModel(*answers), tools, **more)


def agent_with(model: ScriptedModel, tools: Any = (add, delete, fail), **more: Any) -> ChatAgent:
    """An agent with this model."""
    toolbox = Toolbox(read_tools(tools), more.pop("parallel", 8))
    return ChatAgent(model, toolbox, window_tokens=more.pop("window_tokens", 10_000), **more)


def told_of(ctx: RecordingContext, count: int, events: object) -> bool:
    """Whether readers were told of this many results."""
    return len(ctx.returned) == count


def state_of(end: TurnEnd, before: bytes = b"") -> bytes:
    """The session's state after the turn, as the engine keeps it."""
    return end.state if end.state is not None else before + (end.append or b"")


def entries_of(state: bytes) -> list[Any]:
    """What a state holds."""
    return list(Conversation.load(state).entries)
