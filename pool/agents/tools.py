"""Python functions as tools of a chat agent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct

from pool.agent import Context, ToolCall
from pool.agents.model import ToolSchema
from pool.agents.signature import arguments_of, hints_of, read_doc, schema_of
from pool.agents.threads import Threads
from pool.errors import ConfigError

_NAME: Final = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
# What a tool is handed besides the model's arguments, by the hint of the parameter.
_Handed = Literal["ctx", "call"]
_HANDED: Final[dict[Any, _Handed]] = {Context: "ctx", ToolCall: "call"}


class BadArguments(Exception):
    """The model's arguments do not fit; the message is for the model."""


class Tool:
    """A function that a model may call.

    Its name, docstring and type hints are what the model is told. Synchronous functions run in a
    thread. A parameter hinted `Context` gets the turn's context, one hinted `ToolCall` the call
    itself (for `ctx.idempotency_key(call)`); the model sees neither.
    """

    __slots__ = ("_arguments", "_function", "_handed", "_is_async", "schema")

    def __init__(self, function: Callable[..., Any], *, name: str | None = None) -> None:
        name = name if name is not None else getattr(function, "__name__", "")
        if not _NAME.match(name):
            remedy = "a tool is a function whose name has 1 to 64 letters, digits, _ or -"
            raise ConfigError("tools", name or type(function).__name__, remedy)
        hints, doc = hints_of(function, name), read_doc(function)
        parameters = inspect.signature(function).parameters
        self._function = function
        code = function if inspect.isroutine(function) else type(function).__call__
        self._is_async = inspect.iscoroutinefunction(code)
        self._handed = {p: _HANDED[hints[p]] for p in parameters if _is_handed(hints.get(p))}
        seen = {p: parameter for p, parameter in parameters.items() if p not in self._handed}
        self._arguments = arguments_of(name, seen, hints, doc)
        self.schema = ToolSchema(name, doc.summary, schema_of(self._arguments))

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self.schema.name

    def check(self, arguments: Mapping[str, Any]) -> Struct:
        """The arguments as the function's hints want them; `BadArguments` if they do not fit."""
        try:
            return msgspec.convert(arguments, self._arguments)
        except (msgspec.ValidationError, RecursionError) as error:
            raise BadArguments(f"invalid arguments: {error}") from error

    async def run(self, checked: Struct, call: ToolCall, ctx: Context, threads: Threads) -> Any:
        """Call the function with what `check` returned."""
        handed = {"ctx": ctx, "call": call}
        given = {p: handed[what] for p, what in self._handed.items()}
        for field in self._arguments.__struct_fields__:
            value = getattr(checked, field)
            if value is not UNSET:
                given[field] = value
        if self._is_async:
            return await self._function(**given)
        return await threads.run(lambda: self._function(**given))


def read_tools(tools: Sequence[Callable[..., Any] | Tool]) -> dict[str, Tool]:
    """The tools by name; `ConfigError` if one cannot be a tool, or two have the same name."""
    found: dict[str, Tool] = {}
    for given in tools:
        tool = given if isinstance(given, Tool) else Tool(given)
        if tool.name in found:
            raise ConfigError(
                "tools", tool.name, "two tools have this name: give one of them another"
            )
        found[tool.name] = tool
    return found


def _is_handed(hint: Any) -> bool:
    return hint is Context or hint is ToolCall
