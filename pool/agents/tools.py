"""Python functions as tools of a chat agent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Struct

from pool.agent import Context, ToolCall
from pool.agents.model import ToolSchema
from pool.agents.signature import arguments_of, hints_of, read_doc, schema_of
from pool.agents.threads import Threads
from pool.agents.tool_cache import ResultCache
from pool.agents.tool_errors import BadArguments
from pool.agents.tool_limits import ToolLimits
from pool.agents.tool_results import RESULT_CHARS
from pool.errors import ConfigError
from pool.guard.breaker import BreakerRule
from pool.turn import Risk

__all__ = ["BadArguments", "Tool", "read_tools"]

_NAME: Final = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
_RISKS: Final = "write one of " + ", ".join(get_args(Risk))
_NUMBER: Final = "write a number of at least 1"
_SECONDS: Final = "write a number of seconds above 0"
# What a tool is handed besides the model's arguments, by the hint of the parameter.
_Handed = Literal["ctx", "call"]
_HANDED: Final[dict[Any, _Handed]] = {Context: "ctx", ToolCall: "call"}


class Tool:
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

    __slots__ = (
        "_arguments",
        "_function",
        "_handed",
        "_is_async",
        "_limits",
        "cache",
        "max_result_chars",
        "risk",
        "schema",
    )

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
        self._read(function, name)
        _check(name, "risk", risk, risk is None or risk in get_args(Risk), _RISKS)
        self.risk = risk
        fits = max_result_chars >= 1
        _check(name, "max_result_chars", max_result_chars, fits, _NUMBER)
        self.max_result_chars = max_result_chars
        self._limits = _limits(name, timeout_s, parallel, breaker)
        self.cache = None if cache_s is None else self._cache(cache_s)

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self.schema.name

    @property
    def tripped(self) -> bool:
        """Whether it is left alone for now, or tried again, because it failed too often."""
        return self._limits is not None and self._limits.tripped

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
        limits = self._limits
        if self._is_async:
            return await (call_it() if limits is None else limits.run(call_it))
        return await (threads.run(call_it) if limits is None else limits.run_in_thread(call_it))

    def _read(self, function: Callable[..., Any], name: str) -> None:
        """What is to be known of the function."""
        hints, doc = hints_of(function, name), read_doc(function)
        parameters = inspect.signature(function).parameters
        self._function = function
        code = function if inspect.isroutine(function) else type(function).__call__
        self._is_async = inspect.iscoroutinefunction(code)
        self._handed = {p: _HANDED[hints[p]] for p in parameters if _is_handed(hints.get(p))}
        seen = {p: parameter for p, parameter in parameters.items() if p not in self._handed}
        self._arguments = arguments_of(name, seen, hints, doc)
        self.schema = ToolSchema(name, doc.summary, schema_of(self._arguments))

    def _given(self, checked: Struct, call: ToolCall, ctx: Context) -> dict[str, Any]:
        """What the function is called with."""
        handed = {"ctx": ctx, "call": call}
        given = {p: handed[what] for p, what in self._handed.items()}
        for field in self._arguments.__struct_fields__:
            value = getattr(checked, field)
            if value is not UNSET:
                given[field] = value
        return given

    def _cache(self, cache_s: float) -> ResultCache:
        _check(self.name, "cache_s", cache_s, _is_time(cache_s), _SECONDS)
        remedy = 'only what has no effects is kept: say risk="read", or leave it out'
        _check(self.name, "cache_s", cache_s, self.risk == "read", remedy)
        remedy = "its results may be the caller's own: take no Context and no ToolCall"
        _check(self.name, "cache_s", cache_s, not self._handed, remedy)
        return ResultCache(self.name, cache_s)


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


def _limits(
    name: str, timeout_s: float | None, parallel: int | None, breaker: BreakerRule | None
) -> ToolLimits | None:
    _check(name, "timeout_s", timeout_s, timeout_s is None or _is_time(timeout_s), _SECONDS)
    fits = parallel is None or parallel >= 1
    _check(name, "parallel", parallel, fits, _NUMBER)
    if timeout_s is None and parallel is None and breaker is None:
        return None
    return ToolLimits(name, timeout_s=timeout_s, parallel=parallel, breaker=breaker)


def _is_time(seconds: float) -> bool:
    return isfinite(seconds) and seconds > 0


def _check(name: str, option: str, value: object, fits: bool, remedy: str) -> None:
    if not fits:
        raise ConfigError(f"tools.{name}.{option}", value, remedy)
