"""The loop of a chat agent: ask the model, call the tools it asks for, until it has answered."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from pool.agent import Context, TurnEnd, TurnInput
from pool.agents.chain import Chain
from pool.agents.chain_turn import ChainTurn
from pool.agents.conversation import Call, Conversation, ModelSaid, ToolSaid
from pool.agents.model import Answer, AskedCall, Emit, Model, Prompt
from pool.agents.toolbox import Toolbox
from pool.agents.usage import count_answer, count_unanswered
from pool.errors import PoolError
from pool.events import Event, TextDelta, UsageReported
from pool.turn import Mark

if TYPE_CHECKING:
    from pool.agents.mcp_tools import McpTools

# Between what is said before a tool call and what is said after it.
_PARAGRAPH: Final = "\n\n"


class ChatAgent:
    """A model in a conversation, with tools. One instance serves one turn at a time.

    The conversation is the session's state. What the instance served last it still has in memory,
    and does not read again.

    A turn that was answered by the last resort leaves its question in the conversation and not that
    answer: no model said it, and a model that read it would go on excusing itself.
    """

    __slots__ = (
        "_chain",
        "_max_steps",
        "_mcp",
        "_tools",
        "_warm",
        "_window_tokens",
        "answers_as",
        "state_format",
    )

    def __init__(
        self,
        model: Model | Chain,
        tools: Toolbox,
        *,
        window_tokens: int,
        max_steps: int | None = None,
        state_format: str = "chat/1",
        answers_as: str = "",
        mcp: McpTools | None = None,
    ) -> None:
        self._chain = model if isinstance(model, Chain) else Chain.of(model)
        self._tools = tools
        self._mcp = mcp
        self._window_tokens = window_tokens
        self._max_steps = max_steps
        self.state_format = state_format
        # what its answers depend on besides the conversation: see `pool.guard.answers_key`
        self.answers_as = answers_as
        self._warm: tuple[bytes, Conversation] | None = None

    async def open(self) -> None:
        """Open the models' clients, and connect to the servers of tools."""
        await self._chain.open()
        if self._mcp is not None:
            try:
                await self._mcp.open()
            except BaseException:
                await self._chain.close()
                raise

    async def close(self) -> None:
        """Close the models' clients, end the tools' threads and connections."""
        self._tools.close()
        try:
            if self._mcp is not None:
                await self._mcp.close()
        finally:
            await self._chain.close()

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Answer a turn, or go on with one that was paused or interrupted."""
        talk = self._recall(turn.state)
        if not (turn.resume and turn.state):
            talk.begin(turn.unseen, turn.input)
        elif talk.open_calls and not await self._use_tools(talk, ctx):
            return TurnEnd("paused", state=talk.checkpoint(ctx.attempt))
        models = await ChainTurn.begin(self._chain, turn, ctx, partial(count_unanswered, talk))
        status = await self._steps(talk, ctx, models)
        if status == "paused":
            end = TurnEnd("paused", state=talk.checkpoint(ctx.attempt))
        else:
            end = self._end(status, talk, turn.state)
        return msgspec.structs.replace(end, overloaded=True) if models.overloaded else end

    async def _steps(
        self, talk: Conversation, ctx: Context, models: ChainTurn
    ) -> Literal["done", "paused", "limit", "degraded"]:
        most = ctx.max_steps if self._max_steps is None else min(self._max_steps, ctx.max_steps)
        # An earlier attempt's text is forgotten, one that was only paused goes on.
        emit: Emit = (
            _new_paragraph(ctx.emit)
            if talk.attempt == ctx.attempt and talk.has_spoken
            else ctx.emit
        )
        while talk.steps < most and (left := _tokens_left(talk, ctx)) != 0:
            talk.trim(self._window_tokens)
            before = talk.unanswered
            try:
                answer = await models.ask(Prompt(talk.entries, left), emit)
            except BaseException:
                if talk.unanswered > before:
                    # the turn may be another process's by now: then this attempt does not count
                    with suppress(PoolError):
                        await _report(talk, ctx)
                raise
            if answer.degraded:
                if talk.unanswered > before:
                    await _report(talk, ctx)
                return "degraded"
            _take(answer, talk)
            await _report(talk, ctx)
            if answer.cut:
                return "limit"
            if not answer.calls:
                return "done"
            if not await self._use_tools(talk, ctx):
                return "paused"
            if answer.text:
                emit = _new_paragraph(ctx.emit)
        return "limit"

    async def _use_tools(self, talk: Conversation, ctx: Context) -> bool:
        """Answer the open calls; whether all of them were, and none waits for a human."""

        def answered(call: Call, text: str) -> None:
            talk.add(ToolSaid(call.ref, text))

        if not await self._tools.answer(talk.open_calls, ctx, answered):
            return False
        await ctx.checkpoint(talk.checkpoint(ctx.attempt))
        return True

    def _recall(self, state: bytes | None) -> Conversation:
        # Forgotten until the turn has ended well: a turn that breaks off leaves it half changed.
        warm, self._warm = self._warm, None
        if warm is not None and warm[0] == state:
            return warm[1]
        return Conversation.load(state)

    def _end(
        self, how: Literal["done", "limit", "degraded"], talk: Conversation, before: bytes | None
    ) -> TurnEnd:
        status: Literal["done", "limit"] = "limit" if how == "limit" else "done"
        marks: tuple[Mark, ...] = ("degraded",) if how == "degraded" else ()
        growth = talk.take_growth()
        if growth is None or not before:
            state = talk.state()
            self._warm = (state, talk)
            return TurnEnd(status, state=state, marks=marks)
        self._warm = (before + growth, talk)
        return TurnEnd(status, append=growth, marks=marks)


async def _report(talk: Conversation, ctx: Context) -> None:
    await ctx.emit(UsageReported(msgspec.structs.replace(talk.usage)))


def _take(answer: Answer, talk: Conversation) -> None:
    """Add an answer to the conversation, and what it used to the turn's usage."""
    count_answer(talk, answer)
    # The arguments of the last call of an answer that was cut may be cut as well.
    calls = () if answer.cut else _calls(answer.calls, step=talk.steps)
    if answer.text or calls:
        talk.add(ModelSaid(answer.text, calls))


def _calls(asked: tuple[AskedCall, ...], *, step: int) -> tuple[Call, ...]:
    """The calls of one step under names that do not depend on the model, and refs that differ."""
    calls: list[Call] = []
    refs: set[str] = set()
    for place, each in enumerate(asked):
        # Nine letters and digits are what the strictest provider accepts.
        ref = each.ref if each.ref and each.ref not in refs else f"call{step:03}{place:02}"
        refs.add(ref)
        arguments, flaw = _arguments(each.arguments)
        calls.append(Call(f"s{step}c{place}", ref, each.name, arguments, flaw))
    return tuple(calls)


def _arguments(text: str) -> tuple[dict[str, Any], str]:
    """The arguments that a model wrote, or what is wrong with them."""
    try:
        arguments = msgspec.json.decode(text or "{}")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return {}, f"invalid arguments: {error}"
    if isinstance(arguments, dict):
        return arguments, ""
    return {}, "invalid arguments: give a JSON object"


def _tokens_left(talk: Conversation, ctx: Context) -> int | None:
    return None if ctx.max_tokens is None else max(0, ctx.max_tokens - talk.usage.output_tokens)


def _new_paragraph(emit: Emit) -> Emit:
    """Emit so that the first text begins a new paragraph."""
    begun = False

    async def emit_apart(event: Event) -> None:
        nonlocal begun
        if not begun and isinstance(event, TextDelta):
            begun = True
            event = TextDelta(_PARAGRAPH + event.text)
        await emit(event)

    return emit_apart
