"""What all tools of a chat agent have: what a model is told of them, a risk, limits of a call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, get_args

from msgspec import Struct

from pool.agent import Context, ToolCall
from pool.agents.model import ToolSchema
from pool.agents.threads import Threads
from pool.agents.tool_cache import ResultCache
from pool.agents.tool_limits import ToolLimits, check_limits
from pool.errors import ConfigError
from pool.guard.breaker import BreakerRule
from pool.turn import Risk

READ_ONLY: Final = "only what has no effects is kept:"
_RISKS: Final = "write one of " + ", ".join(get_args(Risk))


class BaseTool(ABC):
    """A tool as a toolbox has it. Its limits, and the results that it keeps, are those of all
    actors of an agent together; `Tool` says what they are.

    `cache` is None if no result is used again. `ConfigError` names an option `tools.NAME.OPTION`.
    """

    __slots__ = ("_limits", "cache", "max_result_chars", "risk", "schema")

    def __init__(
        self,
        schema: ToolSchema,
        *,
        risk: Risk | None,
        timeout_s: float | None,
        parallel: int | None,
        max_result_chars: int,
        breaker: BreakerRule | None,
        cache_s: float | None,
    ) -> None:
        self.schema = schema
        self._check("risk", risk, risk is None or risk in get_args(Risk), _RISKS)
        check_limits(
            f"tools.{self.name}.",
            seconds={"timeout_s": timeout_s, "cache_s": cache_s},
            numbers={"max_result_chars": max_result_chars, "parallel": parallel},
        )
        self.risk = risk
        self.max_result_chars = max_result_chars
        unlimited = timeout_s is None and parallel is None and breaker is None
        self._limits = (
            None
            if unlimited
            else ToolLimits(self.name, timeout_s=timeout_s, parallel=parallel, breaker=breaker)
        )
        reads = cache_s is None or risk == "read"
        self._check("cache_s", cache_s, reads, f'{READ_ONLY} say risk="read", or leave it out')
        self.cache = None if cache_s is None else ResultCache(self.name, cache_s)

    @property
    def name(self) -> str:
        """What the model calls it."""
        return self.schema.name

    @property
    def tripped(self) -> bool:
        """Whether it is left alone for now, or tried again, because it failed too often."""
        return self._limits is not None and self._limits.tripped

    @abstractmethod
    def check(self, arguments: Mapping[str, Any]) -> Struct:
        """The arguments as the tool wants them; `BadArguments` if they do not fit."""

    @abstractmethod
    async def run(self, checked: Struct, call: ToolCall, ctx: Context, threads: Threads) -> Any:
        """Do what `check` returned; `ToolError` if the tool's limits do not let it."""

    async def _limited(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await the function, within the limits if there are any."""
        limits = self._limits
        return await (function() if limits is None else limits.run(function))

    def _check(self, option: str, value: object, fits: bool, remedy: str) -> None:
        if not fits:
            raise ConfigError(f"tools.{self.name}.{option}", value, remedy)
