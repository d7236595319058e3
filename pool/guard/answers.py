"""Answers that an agent wants kept: an equal question gets one at once, and costs nothing.

Kept is what a turn said that was done, unmarked, and had nothing to do but answer: it called no
tool, asked no other agent, had no safe point and did not pause. What readers of a hit are told is
one `ModelDecided`, the text as one delta, and a usage of nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, Literal

import msgspec
from msgspec import Struct

from pool.agent import Agent, Context, TurnEnd, TurnInput
from pool.errors import LeaseLost
from pool.events import ModelDecided, TextDelta, UsageReported
from pool.guard.answers_config import AnswerCache
from pool.guard.answers_key import key_of
from pool.guard.answers_questions import Lead, Questions
from pool.guard.answers_stores import AnswerStore
from pool.live import LiveTurn
from pool.text import writable
from pool.turn import Usage

# How the agent came out, asked now.
Ask = Callable[[], Awaitable[TurnEnd | Exception]]


class Answer(Struct, frozen=True, array_like=True, gc=False):
    """What is kept of a turn: what it said, and what it left of the session's state."""

    text: str
    state: bytes | None
    append: bytes | None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Answer).decode


class Answers:
    """The answers of one agent. `random` spreads when they expire."""

    def __init__(self, cache: AnswerCache, store: AnswerStore, *, random: Random) -> None:
        self._cache = cache
        self._store = store
        self._random = random
        self._questions: Questions[Answer] = Questions()

    def __repr__(self) -> str:
        return f"<Answers {self._store!r} {self._questions!r}>"

    async def answer(
        self,
        ask: Ask,
        agent: Agent,
        turn: LiveTurn,
        given: TurnInput,
        ctx: Context,
        *,
        state_format: str,
    ) -> TurnEnd | Exception:
        """How a turn comes out: with an answer that is kept, that of an equal turn which runs, or
        as the agent says when it is asked. `state_format`: in which the session's state is kept.
        """
        if given.resume:
            return await ask()
        key = key_of(
            self._cache, agent, turn.record, given, state_format=state_format, model=ctx.model
        )
        place = await self._questions.join(key, turn)
        if place is None:
            return await ask()
        if isinstance(place, Answer):
            return await _repeat(place, "shared", turn, ctx)
        return await self._lead(place, key, ask, turn, ctx)

    async def _lead(
        self, lead: Lead[Answer], key: str, ask: Ask, turn: LiveTurn, ctx: Context
    ) -> TurnEnd | Exception:
        with lead:
            kept = await self._find(key)
            if kept is None:
                end = await _asked(ask, lead)
                if isinstance(end, Exception) or turn.stopping:
                    return end
                answer = _answer_of(end, turn)
                if answer is not None:
                    await self._keep(key, answer)
                lead.answered(answer)
                return end
            lead.answered(kept)
        return await _repeat(kept, "cached", turn, ctx)

    async def _find(self, key: str) -> Answer | None:
        found = await self._store.get(key)
        if found is None:
            return None
        try:
            return _decode(found)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # nothing of ours: what is kept now takes its place
            return None

    async def _keep(self, key: str, answer: Answer) -> None:
        encoded = _encode(answer)
        if len(encoded) <= self._cache.max_answer_bytes:
            lasting = self._random.uniform(1 - self._cache.jitter, 1)
            await self._store.put(key, encoded, self._cache.ttl_s * lasting)


async def _asked(ask: Ask, lead: Lead[Answer]) -> TurnEnd | Exception:
    # What is wrong is so for all that wait: they find out together, not one by one. Not if it is
    # only that the turn is another process's now.
    try:
        end = await ask()
    except LeaseLost:
        raise
    except Exception:
        lead.answered(None)
        raise
    if isinstance(end, Exception):
        lead.answered(None)
    return end


def _answer_of(end: TurnEnd, turn: LiveTurn) -> Answer | None:
    """What others may be told as well; None if it was for this turn alone."""
    record = turn.record
    acted = record.usage.tool_calls or turn.gated or record.decided or turn.has_asked
    # what is appended to a state that was stored on the way fits on no other
    whole = end.status == "done" and not end.marks and not record.resumes and turn.at_work
    if acted or not whole:
        return None
    text = "".join(turn.texts) or writable(end.output or "")[0]
    return Answer(text, end.state, end.append) if text else None


async def _repeat(
    answer: Answer, step: Literal["cached", "shared"], turn: LiveTurn, ctx: Context
) -> TurnEnd:
    await ctx.emit(ModelDecided(step=step))
    await ctx.emit(TextDelta(answer.text))
    if turn.record.usage == Usage():
        # not unknown; what an attempt before this one used, it used
        await ctx.emit(UsageReported(Usage(cost_usd=0.0)))
    return TurnEnd("done", state=answer.state, append=answer.append, marks=("cached",))
