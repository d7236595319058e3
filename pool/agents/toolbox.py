"""The tool calls of one step: checked, put to the gate in order, and what may run is run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from pool.agent import Context, ToolCall
from pool.agents.base_tool import BaseTool
from pool.agents.conversation import Call
from pool.agents.model import ToolSchema
from pool.agents.threads import Threads
from pool.agents.tool_errors import BadArguments, ToolError
from pool.agents.tool_results import Result, failed, fit, rendered
from pool.events import ToolCalled, ToolReturned

Answered = Callable[[Call, str], None]


class _Ready(Struct, frozen=True):
    """A call that may run, with its arguments checked."""

    call: Call
    asked: ToolCall
    # what it means: the same, unless the turn has a veil
    meant: ToolCall
    tool: BaseTool
    checked: Struct


class Toolbox:
    """An actor's tools, and the threads that the synchronous ones run in."""

    __slots__ = ("_parallel", "_threads", "_tools")

    def __init__(self, tools: Mapping[str, BaseTool], parallel: int) -> None:
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
            tool = self._tools.get(call.name)
            risk = None if tool is None else tool.risk
            asked = ToolCall(call.id, call.name, call.arguments, risk)
            checked = self._checked(call, asked, tool, ctx)
            if isinstance(checked, Result):
                await _refuse(asked, checked, ctx)
                answered(call, checked.text)
                continue
            decision = await ctx.gate(asked)
            if decision.action == "allow":
                ready.append(checked)
            elif decision.action == "deny":
                denied = failed(f"denied: {decision.reason or 'this call is not allowed'}")
                await _refuse(asked, denied, ctx)
                answered(call, denied.text)
            else:
                waiting = True
        await self._run(ready, ctx, answered)
        return not waiting

    def _checked(
        self, call: Call, asked: ToolCall, tool: BaseTool | None, ctx: Context
    ) -> _Ready | Result:
        if call.flaw:
            return failed(call.flaw)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return failed(f"there is no tool {call.name!r}; the tools are: {known}")
        meant = replace(asked, arguments=ctx.reveal(asked.arguments))
        try:
            return _Ready(call, asked, meant, tool, tool.check(meant.arguments))
        except BadArguments as error:
            return failed(ctx.conceal(str(error)))

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
        answered(each.call, ctx.conceal(result.text))
        await ctx.emit(ToolReturned(each.call.id, ctx.conceal(result.shown), result.is_error))

    async def _result(self, each: _Ready, ctx: Context) -> Result:
        cache, arguments = each.tool.cache, each.meant.arguments
        if cache is None:
            return await self._came_of(each, ctx)
        tenant = ctx.principal.tenant
        result = await cache.get(tenant, arguments)
        if result is None:
            result = await self._came_of(each, ctx)
            await cache.put(tenant, arguments, result)
        return result

    async def _came_of(self, each: _Ready, ctx: Context) -> Result:
        try:
            value = await each.tool.run(each.checked, each.meant, ctx, self._threads)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return failed("the tool failed: CancelledError")
        except ToolError as error:
            return failed(str(error))
        except (Exception, SystemExit) as error:
            # The model may read what went wrong; readers of the turn are told only its kind.
            kind = f"the tool failed: {type(error).__name__}"
            return Result(fit(f"{kind}: {error}", each.tool.max_result_chars), kind, is_error=True)
        return rendered(value, each.tool.max_result_chars)


def _called(asked: ToolCall) -> ToolCalled:
    return ToolCalled(asked.call_id, asked.name, asked.arguments)


async def _refuse(asked: ToolCall, result: Result, ctx: Context) -> None:
    await ctx.emit(_called(asked))
    await ctx.emit(ToolReturned(asked.call_id, result.shown, is_error=True))
