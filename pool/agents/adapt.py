"""What a user gives as an agent, turned into a factory of agents: one for each actor."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeGuard

from pool.agent import Agent, Context, TurnEnd, TurnInput
from pool.agents.functions import FunctionAgent, GeneratorAgent, ThreadAgent
from pool.errors import ConfigError
from pool.guard.answers_key import AnswersAs

_PARTS: Final = ("state_format", "open", "run", "close")
_ACCEPTED: Final = (
    "give an async function or async generator of the text (or of the text and ctx), a "
    "synchronous function of the text, an object with state_format, open, run and close, or a "
    "class or function without arguments that makes one of these"
)


def adapt(target: Any) -> Callable[[], Agent]:
    """A factory of agents from whatever was given as one; call it once for each actor.

    What needs one argument (the text) or two (the text and the context) is an agent; what needs
    none makes agents, and is called when an actor opens. An object that is an agent already is
    shared by all actors. `ConfigError` for anything else.
    """
    if not isinstance(target, type) and _is_agent(target):
        return lambda: target
    if not callable(target):
        raise _refused(target, _missing(target) or _ACCEPTED)
    if _needed(target):
        return _function_agent(target)
    if _is_async(target):
        raise _refused(
            target, "a factory makes its agent at once: write it without async, and await in open"
        )
    return lambda: MadeAgent(target)


class MadeAgent:
    """The agent that a factory makes when the actor opens."""

    __slots__ = ("_agent", "_factory", "answers_as", "state_format")

    _agent: Agent

    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory
        self.answers_as = ""
        self.state_format = ""

    async def open(self) -> None:
        """Make the agent and open it; `ConfigError` if what was made is none."""
        agent = self._accepted(self._factory())
        await agent.open()
        self._agent = agent
        self.answers_as = agent.answers_as if isinstance(agent, AnswersAs) else ""
        self.state_format = agent.state_format

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Let the agent run the turn."""
        return await self._agent.run(turn, ctx)

    async def close(self) -> None:
        """Close the agent."""
        await self._agent.close()

    def _accepted(self, made: Any) -> Agent:
        if not isinstance(made, type) and _is_agent(made):
            return made
        if inspect.iscoroutine(made):
            made.close()
        factory = _name(self._factory)
        if not callable(made):
            remedy = _missing(made) or _ACCEPTED
            raise _refused(self._factory, f"{factory} made {_name(made)}: {remedy}")
        if not _needed(made):
            raise _refused(
                self._factory,
                f"{factory} made another factory, {_name(made)}: give that one itself",
            )
        return _function_agent(made)()


def _function_agent(function: Callable[..., Any]) -> Callable[[], Agent]:
    code, name, with_ctx = _code(function), _name(function), _with_ctx(function)
    if inspect.isasyncgenfunction(code):
        return lambda: GeneratorAgent(function, name, with_ctx)
    if inspect.iscoroutinefunction(code):
        return lambda: FunctionAgent(function, name, with_ctx)
    if inspect.isgeneratorfunction(code):
        raise _refused(function, "a generator agent is asynchronous: write it with async def")
    return lambda: ThreadAgent(function, name, with_ctx)


def _is_agent(target: object) -> TypeGuard[Agent]:
    return all(hasattr(target, part) for part in _PARTS)


def _missing(target: object) -> str | None:
    """What keeps an object with `run` from being an agent."""
    if not hasattr(target, "run"):
        return None
    missing = ", ".join(part for part in _PARTS if not hasattr(target, part))
    return f"it has run but not {missing}: an agent has state_format, open, run and close"


def _is_async(target: Callable[..., Any]) -> bool:
    code = _code(target)
    return inspect.iscoroutinefunction(code) or inspect.isasyncgenfunction(code)


def _code(target: Callable[..., Any]) -> Callable[..., Any]:
    """The function behind a partial or a callable object."""
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isroutine(target) or isinstance(target, type):
        return target
    called: Callable[..., Any] = type(target).__call__
    return called


def _parameters(target: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        raise _refused(target, f"its parameters cannot be seen: {_ACCEPTED}") from None


def _needed(target: Callable[..., Any]) -> int:
    """How many arguments it needs; `ConfigError` if neither agent nor factory is called so."""
    needed = [
        parameter
        for parameter in _parameters(target)
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    named = [parameter.name for parameter in needed if parameter.kind is parameter.KEYWORD_ONLY]
    if named:
        raise _refused(
            target, f"it needs {', '.join(named)} by name: bind it with functools.partial"
        )
    if len(needed) > 2:
        raise _refused(target, f"it needs {len(needed)} arguments: {_ACCEPTED}")
    if needed and isinstance(target, type):
        raise _refused(
            target, "the class needs arguments: give a function without any that makes the object"
        )
    return len(needed)


def _with_ctx(function: Callable[..., Any]) -> bool:
    """Whether it takes the context: by a second argument that it needs, or one called `ctx`."""
    second = [
        p for p in _parameters(function) if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ][1:2]
    return any(p.default is p.empty or p.name == "ctx" for p in second)


def _name(target: object) -> str:
    while isinstance(target, functools.partial):
        target = target.func
    named = target if inspect.isroutine(target) or isinstance(target, type) else type(target)
    return str(getattr(named, "__name__", named))


def _refused(target: object, remedy: str) -> ConfigError:
    return ConfigError("agent", _name(target), remedy)
