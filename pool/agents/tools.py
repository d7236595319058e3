"""Python functions as tools of a chat agent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct

from pool.agent import Context, ToolCall
from pool.agents.base_tool import BaseTool
from pool.agents.model import ToolSchema
from pool.agents.signature import arguments_of, hints_of, read_doc, schema_of
from pool.agents.threads import Threads
from pool.agents.tool_errors import BadArguments
from pool.agents.tool_results import RESULT_CHARS
from pool.errors import ConfigError
from pool.guard.breaker import BreakerRule
from pool.turn import Risk

__all__ = ["BadArguments", "Tool", "read_tools"]

_NAME: Final = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
# What a tool is handed besides the model's arguments, by the hint of the parameter.
_Handed = Literal["ctx", "call"]
_HANDED: Final[dict[Any, _Handed]] = {Context: "ctx", ToolCall: "call"}


class Tool(BaseTool):
    """A function that a model may call.

    Its name, docstring and type hints are what the model is told. Synchronous functions run in a
    thread. A parameter hinted `Context` gets the turn's context, one hinted `ToolCall` the call
    itself (for `ctx.idempotency_key(call)`); the model sees neither.

    `risk`: what it does, for the rules about tools: `read`, `write` (so it counts if nothing is
    said) or `dangerous` (a human is asked). The limits hold for all actors of an agent together:

    `timeout_s`: how long a call may take, its wait for a place included (None: as long as the turn
    may); the thread of a synchronous function is given up then. `parallel`: how many calls run at
    once (None: any number). `max_result_chars`: how much of a result the model and readers are
    shown. `breaker`: when it is left alone because it fails. `cache_s`: for how long a result is
    used again when the same tenant has it called with the same arguments; only for what is `read`.
    """

    __slots__ = ("_arguments", "_function", "_handed", "_is_async")

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        risk: Risk | None = None,
        timeout_s: float | None = None,
        parallel: int | None = None,
        max_result_chars: int = RESULT_CHARS,
        breaker: BreakerRule | None = None,
        cache_s: float | None = None,
    ) -> None:
        name = name if name is not None else getattr(function, "__name__", "")
        if not _NAME.match(name):
            remedy = "a tool is a function whose name has 1 to 64 letters, digits, _ or -"
            raise ConfigError("tools", name or type(function).__name__, remedy)
        super().__init__(
            self._read(function, name),
            risk=risk,
            timeout_s=timeout_s,
            parallel=parallel,
            max_result_chars=max_result_chars,
            breaker=breaker,
            cache_s=cache_s,
        )
        if self.cache is not None:
            remedy = "its results may be the caller's own: take no Context and no ToolCall"
            self._check("cache_s", cache_s, not self._handed, remedy)

    def check(self, arguments: Mapping[str, Any]) -> Struct:
        """The arguments as the function's hints want them; `BadArguments` if they do not fit."""
        try:
            return msgspec.convert(arguments, self._arguments)
        except (msgspec.ValidationError, RecursionError) as error:
            raise BadArguments(f"invalid arguments: {error}") from error

    async def run(self, checked: Struct, call: ToolCall, ctx: Context, threads: Threads) -> Any:
        """Call the function with what `check` returned; `ToolError` if its limits do not let it."""
        given = self._given(checked, call, ctx)
        call_it = partial(self._function, **given)
        if self._is_async:
            return await self._limited(call_it)
        limits = self._limits
        return await (threads.run(call_it) if limits is None else limits.run_in_thread(call_it))

    def _read(self, function: Callable[..., Any], name: str) -> ToolSchema:
        """Learn what is to be known of the function; what the model is told of it."""
        hints, doc = hints_of(function, name), read_doc(function)
        parameters = inspect.signature(function).parameters
        self._function = function
        code = function if inspect.isroutine(function) else type(function).__call__
        self._is_async = inspect.iscoroutinefunction(code)
        self._handed = {p: _HANDED[hints[p]] for p in parameters if _is_handed(hints.get(p))}
        seen = {p: parameter for p, parameter in parameters.items() if p not in self._handed}
        self._arguments = arguments_of(name, seen, hints, doc)
        return ToolSchema(name, doc.summary, schema_of(self._arguments))

    def _given(self, checked: Struct, call: ToolCall, ctx: Context) -> dict[str, Any]:
        """What the function is called with."""
        handed = {"ctx": ctx, "call": call}
        given = {p: handed[what] for p, what in self._handed.items()}
        for field in self._arguments.__struct_fields__:
            value = getattr(checked, field)
            if value is not UNSET:
                given[field] = value
        return given


def read_tools(tools: Sequence[Callable[..., Any] | BaseTool]) -> dict[str, BaseTool]:
    """The tools by name; `ConfigError` if one cannot be a tool, or two have the same name."""
    found: dict[str, BaseTool] = {}
    for given in tools:
        tool = given if isinstance(given, BaseTool) else Tool(given)
        if tool.name in found:
            raise ConfigError(
                "tools", tool.name, "two tools have this name: give one of them another"
            )
        found[tool.name] = tool
    return found


def _is_handed(hint: Any) -> bool:
    return hint is Context or hint is ToolCall
