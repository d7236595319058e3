"""The tool calls of one step: checked, put to the gate in order, and what may run is run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from pool.agent import Context, ToolCall
from pool.agents.conversation import Call
from pool.agents.model import ToolSchema
from pool.agents.threads import Threads
from pool.agents.tools import BadArguments, Tool
from pool.events import ToolCalled, ToolReturned

# What a model is shown of one result at most, in characters.
RESULT_CHARS: Final = 100_000

Answered = Callable[[Call, str], None]


class Result(Struct, frozen=True):
    """What came of a call: the text for the model, and what readers are shown."""

    text: str
    shown: Any
    is_error: bool = False


class _Ready(Struct, frozen=True):
    """A call that may run, with its arguments checked."""

    call: Call
    asked: ToolCall
    tool: Tool
    checked: Struct


class Toolbox:
    """An actor's tools, and the threads that the synchronous ones run in."""

    __slots__ = ("_parallel", "_threads", "_tools")

    def __init__(self, tools: Mapping[str, Tool], parallel: int) -> None:
        self._tools = tools
        self._parallel = parallel
        self._threads = Threads("tool")

    @property
    def schemas(self) -> Sequence[ToolSchema]:
        """The tools as the model sees them."""
        return [tool.schema for tool in self._tools.values()]

    def close(self) -> None:
        """End the threads."""
        self._threads.stop()

    async def answer(self, calls: Sequence[Call], ctx: Context, answered: Answered) -> bool:
        """Answer the calls of one step; whether all of them were, and none waits for a human.

        `answered` is told the text for the model, call by call. The gate is asked about each call
        in order before any runs; a call that is wrong in itself is answered without asking.
        """
        ready: list[_Ready] = []
        waiting = False
        for call in calls:
            asked = ToolCall(call.id, call.name, call.arguments)
            checked = self._checked(call, asked)
            if isinstance(checked, Result):
                await _refuse(asked, checked, ctx)
                answered(call, checked.text)
                continue
            decision = await ctx.gate(asked)
            if decision.action == "allow":
                ready.append(checked)
            elif decision.action == "deny":
                denied = _error(f"denied: {decision.reason or 'this call is not allowed'}")
                await _refuse(asked, denied, ctx)
                answered(call, denied.text)
            else:
                waiting = True
        await self._run(ready, ctx, answered)
        return not waiting

    def _checked(self, call: Call, asked: ToolCall) -> _Ready | Result:
        if call.flaw:
            return _error(call.flaw)
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return _error(f"there is no tool {call.name!r}; the tools are: {known}")
        try:
            return _Ready(call, asked, tool, tool.check(call.arguments))
        except BadArguments as error:
            return _error(str(error))

    async def _run(self, ready: Sequence[_Ready], ctx: Context, answered: Answered) -> None:
        for each in ready:
            await ctx.emit(_called(each.asked))
        if len(ready) == 1:
            await self._ended(ready[0], await self._result(ready[0], ctx), ctx, answered)
        elif ready:
            await self._run_together(ready, ctx, answered)

    async def _run_together(
        self, ready: Sequence[_Ready], ctx: Context, answered: Answered
    ) -> None:
        """Run several at once, and tell each one's end when it comes."""
        places = asyncio.Semaphore(self._parallel)

        async def run(each: _Ready) -> tuple[_Ready, Result]:
            async with places:
                return each, await self._result(each, ctx)

        running = [asyncio.create_task(run(each)) for each in ready]
        try:
            for ended in asyncio.as_completed(running):
                each, result = await ended
                await self._ended(each, result, ctx, answered)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    async def _ended(self, each: _Ready, result: Result, ctx: Context, answered: Answered) -> None:
        answered(each.call, result.text)
        await ctx.emit(ToolReturned(each.call.id, result.shown, result.is_error))

    async def _result(self, each: _Ready, ctx: Context) -> Result:
        try:
            value = await each.tool.run(each.checked, each.asked, ctx, self._threads)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return _error("the tool failed: CancelledError")
        except (Exception, SystemExit) as error:
            # The model may read what went wrong; readers of the turn are told only its kind.
            failed = f"the tool failed: {type(error).__name__}"
            return Result(_fit(f"{failed}: {error}"), failed, is_error=True)
        return _rendered(value)


def _rendered(value: Any) -> Result:
    """What a tool returned, as text for the model and as plain JSON for readers."""
    if value is None:
        return Result("done", None)
    if isinstance(value, str):
        text = _fit(value)
        return Result(text, text)
    try:
        plain = msgspec.to_builtins(value, str_keys=True)
        text = msgspec.json.encode(plain).decode()
    except (TypeError, ValueError, RecursionError):
        return _error(f"the tool returned {type(value).__name__}, which is not JSON")
    return Result(text, plain) if len(text) <= RESULT_CHARS else Result(_fit(text), _fit(text))


def _fit(text: str) -> str:
    """The text without what cannot be written as UTF-8, cut to what a model is shown at most."""
    cut = text[:RESULT_CHARS]
    if not cut.isascii():
        cut = cut.encode("utf-8", "replace").decode()
    if len(text) > RESULT_CHARS:
        return f"{cut} [cut: {len(text)} characters in all]"
    return cut


def _error(text: str) -> Result:
    fitting = _fit(text)
    return Result(fitting, fitting, is_error=True)


def _called(asked: ToolCall) -> ToolCalled:
    return ToolCalled(asked.call_id, asked.name, asked.arguments)


async def _refuse(asked: ToolCall, result: Result, ctx: Context) -> None:
    await ctx.emit(_called(asked))
    await ctx.emit(ToolReturned(asked.call_id, result.shown, is_error=True))
