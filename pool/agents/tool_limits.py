"""What one tool may take: how long, how often at once, and how many failures in a row.

The limits are the tool's, whichever actor calls it. Their state is kept here; nothing is global.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil, isfinite
from typing import Any
from weakref import WeakKeyDictionary

import structlog

from pool.agents.tool_errors import BadArguments, ToolResting, ToolTimeout
from pool.agents.tool_threads import start, wait_until
from pool.errors import ConfigError
from pool.guard.breaker import BreakerOpen, BreakerRule, Breakers, BreakerState, Passage

_log = structlog.get_logger("pool.agents.tools")


def check_limits(
    where: str, *, seconds: Mapping[str, float | None], numbers: Mapping[str, int | None]
) -> None:
    """`ConfigError` for a limit that cannot be, by its option; `where` goes before that."""
    for option, time_s in seconds.items():
        if time_s is not None and not (isfinite(time_s) and time_s > 0):
            raise ConfigError(where + option, time_s, "write a number of seconds above 0")
    for option, number in numbers.items():
        if number is not None and number < 1:
            raise ConfigError(where + option, number, "write a number of at least 1")


class ToolLimits:
    """The limits of the tool `name`.

    `timeout_s`: how long a call may take, its wait for a place included. `parallel`: how many calls
    run at once. `breaker`: after how many failures in a row it is left alone.
    """

    __slots__ = ("_breaker", "_name", "_parallel", "_places", "_timeout_s")

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float | None,
        parallel: int | None,
        breaker: BreakerRule | None,
    ) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._parallel = parallel
        # a semaphore belongs to one loop; a tool may live longer
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]
        self._places = WeakKeyDictionary()
        self._breaker = (
            None if breaker is None else Breakers(breaker, clock=_loop_time, changed=_tell).of(name)
        )

    @property
    def tripped(self) -> bool:
        """Whether its breaker does not let every call through now."""
        return self._breaker is not None and self._breaker.state != "closed"

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Await the function within the limits; `ToolError` if they do not let it."""
        ends_at = self._ends_at()
        with self._passage() as passage:
            give_back = await self._take_place(ends_at, passage)
            try:
                async with asyncio.timeout_at(ends_at) as scope:
                    return await function()
            except TimeoutError:
                if scope.expired():
                    raise self._too_long() from None
                raise
            finally:
                give_back()

    async def run_in_thread(self, function: Callable[[], Any]) -> Any:
        """Call the function in a thread, within the limits; `ToolError` if they do not let it.

        A thread that was given up keeps its place until its call has ended.
        """
        ends_at = self._ends_at()
        with self._passage() as passage:
            give_back = await self._take_place(ends_at, passage)
            try:
                outcome = start(function, f"tool {self._name}")
            except BaseException:
                give_back()
                raise
            outcome.add_done_callback(lambda _: give_back())
            if not await wait_until(outcome, ends_at):
                raise self._too_long()
            return outcome.result()

    def _ends_at(self) -> float | None:
        return None if self._timeout_s is None else _loop_time() + self._timeout_s

    @contextmanager
    def _passage(self) -> Iterator[Passage | None]:
        """The way through the breaker."""
        if self._breaker is None:
            yield None
            return
        try:
            passage = self._breaker.enter()
        except BreakerOpen as error:
            raise ToolResting(
                f"{self._name} failed too often and is left alone for now; do without it, or try "
                f"again in {ceil(error.retry_after_s)} s"
            ) from None
        with passage:
            try:
                yield passage
            except BadArguments:
                passage.succeeded()
                raise

    async def _take_place(
        self, ends_at: float | None, passage: Passage | None
    ) -> Callable[[], None]:
        """Wait for a place; what gives it back."""
        if self._parallel is None:
            return _nothing
        loop = asyncio.get_running_loop()
        places = self._places.get(loop)
        if places is None:
            places = self._places[loop] = asyncio.Semaphore(self._parallel)
        try:
            async with asyncio.timeout_at(ends_at):
                await places.acquire()
        except TimeoutError:
            if passage is not None:
                # it was never called
                passage.abandoned()
            raise ToolTimeout(
                f"{self._name} had no place free within {self._timeout_s:g} s; do without it, or "
                "try again later"
            ) from None
        return places.release

    def _too_long(self) -> ToolTimeout:
        return ToolTimeout(f"{self._name} took longer than {self._timeout_s:g} s and was given up")


def _tell(name: str, state: BreakerState, /) -> None:
    _log.warning("a tool's breaker changed", tool=name, state=state)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


def _nothing() -> None:
    """Without a limit there is no place to give back."""
