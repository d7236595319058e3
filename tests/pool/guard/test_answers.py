"""An agent that wants its answers kept is asked once for equal questions, and never for others'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from pool import AgentPool, AgentSpec, Principal, Turn
from pool.agent import Context, Decision, ToolCall, TurnEnd, TurnInput
from pool.errors import AgentFailed
from pool.events import (
    ModelDecided,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCompleted,
    UsageReported,
)
from pool.guard.answers_config import AnswerCache
from pool.guard.answers_memory import MemoryAnswers
from pool.observer import ModelDecidedNotice
from pool.turn import ANYONE, Usage
from tests.support.agents import Held, Notices, Scripted, Stubborn, collected, pooled, said, ticks

KEPT = AnswerCache(ttl_s=60.0, jitter=0.0)
ANN = Principal("acme", "ann")
BOB = Principal("acme", "bob")
EVE = Principal("other", "eve")


class Counting:
    """Answers `<n>: <text>` for its n-th question, at the price of a model."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, text: str, ctx: Context) -> AsyncIterator[Any]:
        self.asked.append(text)
        yield f"{len(self.asked)}: "
        yield ReasoningDelta("hm")
        yield text
        yield UsageReported(Usage(10, 5, requests=1, cost_usd=0.5, models=("m",)))


class Remembering:
    """Keeps the conversation as its state, from its beginning or by what was added."""

    def __init__(self, *, appending: bool) -> None:
        self.asked: list[bytes] = []
        self._appending = appending

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        before = turn.state or b""
        self.asked.append(before)
        added = f"[{turn.input}]".encode()
        answer = f"{len(before)} before"
        if self._appending and before:
            return TurnEnd(output=answer, append=added)
        return TurnEnd(output=answer, state=before + added)


def kept(agent: Any, cache: AnswerCache = KEPT, **options: Any) -> AgentSpec:
    """An agent whose answers are kept."""
    return AgentSpec(agent=agent, cache=cache, **options)


def scripted(run: Callable[[TurnInput, Context], Awaitable[TurnEnd]], **options: Any) -> AgentSpec:
    """The same for an agent made of a function; it keeps no state."""
    return kept(Scripted(run), **options)


async def outputs(pool: AgentPool, *texts: str, **options: Any) -> list[str]:
    """What is answered to each question, one after the other."""
    return [(await pool.ask(text, **options)).output for text in texts]


async def test_an_equal_question_is_answered_without_the_agent() -> None:
    """Its text is the first one's, marked, and it cost nothing: that is known, not unknown."""
    agent = Counting()
    async with pooled(kept(agent)) as pool:
        first = await pool.ask("why?")
        again = await pool.ask("why?")
        other = await pool.ask("who?")

    assert (first.output, again.output, other.output) == ("1: why?", "1: why?", "2: who?")
    assert (first.marks, again.marks) == ((), ("cached",))
    assert first.usage.cost_usd == 0.5
    assert again.usage == Usage(cost_usd=0.0)
    assert agent.asked == ["why?", "who?"]


async def test_readers_of_a_hit_are_told_so() -> None:
    """One event says that the answer is kept, one delta has the text; no reasoning comes again."""
    notices = Notices()
    async with pooled(kept(Counting()), observers=[notices]) as pool:
        await pool.ask("why?")
        events = await collected(pool.stream("why?"))

    kinds = [type(event) for event in events[2:]]
    assert kinds == [ModelDecided, TextDelta, UsageReported, TurnCompleted]
    decided = next(event for event in events if isinstance(event, ModelDecided))
    assert (decided.step, decided.model) == ("cached", "")
    assert said(events) == "1: why?"
    assert [notice.step for notice in notices.of(ModelDecidedNotice)] == ["cached"]


async def test_answers_are_not_kept_unless_the_agent_wants_it() -> None:
    """Without a cache every question is asked."""
    agent = Counting()
    async with pooled(AgentSpec(agent=agent)) as pool:
        assert await outputs(pool, "x", "x") == ["1: x", "2: x"]


async def test_tenants_never_meet() -> None:
    """What one tenant was answered no other is."""
    async with pooled(kept(Counting())) as pool:
        first = await pool.ask("x", principal=ANN)
        foreign = await pool.ask("x", principal=EVE)
        same = await pool.ask("x", principal=BOB)

    assert (first.output, foreign.output, same.output) == ("1: x", "2: x", "1: x")


async def test_tenants_do_not_share_a_running_answer_either() -> None:
    """An equal question of another tenant is asked at the same time."""
    agent = Held()
    async with pooled(kept(agent)) as pool:
        turns = [await pool.submit("x", principal=who) for who in (ANN, EVE)]
        await agent.until_started(2)
        await agent.let_all()
        for turn, who in zip(turns, (ANN, EVE), strict=True):
            assert (await pool.wait(turn.id, principal=who)).marks == ()


async def test_users_are_apart_where_that_is_wanted() -> None:
    """The same user with other roles is somebody else."""
    cache = AnswerCache(ttl_s=60.0, per="user")
    async with pooled(kept(Counting(), cache)) as pool:
        asked = [ANN, BOB, ANN, Principal("acme", "ann", ("user", "admin"))]
        answers = [(await pool.ask("x", principal=who)).output for who in asked]

    assert answers == ["1: x", "2: x", "1: x", "3: x"]


async def test_agents_do_not_answer_for_each_other() -> None:
    """Not even with the same name of everything else."""
    agent = Counting()
    async with pooled({"a": kept(agent), "b": kept(agent)}) as pool:
        answers = [(await pool.ask("x", agent=name)).output for name in ("a", "b", "a")]

    assert answers == ["1: x", "2: x", "1: x"]


@pytest.mark.parametrize("appending", [False, True])
async def test_the_same_question_in_another_conversation_is_another(appending: bool) -> None:
    """In one that is equal so far it is the same, and leaves the session as the first one did."""
    agent = Remembering(appending=appending)
    spec = kept(Scripted(agent.run, state_format="r/1"))
    async with pooled(spec) as pool:
        assert await outputs(pool, "a", "b", "b", session="one") == [
            "0 before",
            "3 before",
            "6 before",
        ]
        # from the same beginning to the same end, without the agent
        assert await outputs(pool, "a", "b", "b", session="two") == [
            "0 before",
            "3 before",
            "6 before",
        ]
        assert len(agent.asked) == 3
        assert await outputs(pool, "b", session="three") == ["0 before"]
        # the state of the hits is whole: the next question is asked with it
        assert await outputs(pool, "c", session="two") == ["9 before"]
        assert agent.asked[-1] == b"[a][b][b]"


async def test_what_the_transcript_holds_beyond_the_state_counts() -> None:
    """A conversation in which another agent spoke is another conversation."""
    agent = Remembering(appending=False)
    specs = {"r": kept(Scripted(agent.run, state_format="r/1")), "echo": _echo}
    async with pooled(specs) as pool:
        await pool.ask("between", session="one", agent="echo")
        await pool.ask("x", session="one", agent="r")
        await pool.ask("x", session="two", agent="r")
        await pool.ask("between", session="three", agent="echo")
        again = await pool.ask("x", session="three", agent="r")

    assert len(agent.asked) == 2
    assert again.marks == ("cached",)


async def _echo(text: str) -> str:
    return text


@pytest.mark.parametrize(
    "options",
    [{"metadata": {"lang": "de"}}, {"complexity": "high"}, {"priority": "batch"}],
    ids=["metadata", "complexity", "priority"],
)
async def test_what_may_choose_another_answer_makes_another_question(
    options: dict[str, Any],
) -> None:
    """Metadata are read by agents; the other two choose models."""
    async with pooled(kept(Counting())) as pool:
        answers = [(await pool.ask("x", **each)).output for each in ({}, options, options)]

    assert answers == ["1: x", "2: x", "2: x"]


async def test_only_the_metadata_count_that_are_named() -> None:
    """A caller may write others as it likes."""
    cache = AnswerCache(ttl_s=60.0, metadata=("lang",))
    given: list[dict[str, Any]] = [
        {"lang": "de", "trace": 1},
        {"lang": "de", "trace": 2},
        {"lang": "fr"},
    ]
    async with pooled(kept(Counting(), cache)) as pool:
        answers = [(await pool.ask("x", metadata=each)).output for each in given]

    assert answers == ["1: x", "1: x", "2: x"]


class Telling(Scripted):
    """An agent that says what its answers depend on."""

    def __init__(self, agent: Counting, answers_as: str) -> None:
        super().__init__(self._count)
        self.answers_as = answers_as
        self._agent = agent

    async def _count(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        self._agent.asked.append(turn.input)
        return TurnEnd(output=str(len(self._agent.asked)))


async def test_an_agent_that_changes_has_other_answers() -> None:
    """By what it says of itself, or by the version in its configuration, in one shared store."""
    agent = Counting()
    answers = []
    store = MemoryAnswers(max_entries=9, max_bytes=10**6, clock=asyncio.get_running_loop().time)
    for told, version in [("m1", ""), ("m1", ""), ("m2", ""), ("m2", "b"), ("m2", "b")]:
        cache = AnswerCache(ttl_s=60.0, version=version)
        spec = {"a": kept(Telling(agent, told), cache)}
        async with pooled(spec, answers=store) as pool:
            answers += await outputs(pool, "x")

    assert answers == ["1", "1", "2", "3", "3"]


# --- what is kept


async def test_an_answer_is_kept_for_its_time() -> None:
    """Then the agent is asked again."""
    async with pooled(kept(Counting())) as pool:
        assert await outputs(pool, "x") == ["1: x"]
        await asyncio.sleep(59.9)
        assert await outputs(pool, "x") == ["1: x"]
        await asyncio.sleep(0.2)
        assert await outputs(pool, "x") == ["2: x"]


async def test_answers_of_one_moment_do_not_expire_together() -> None:
    """The jitter makes the time of each shorter, never longer."""
    questions = [str(n) for n in range(40)]
    cache = AnswerCache(ttl_s=100.0, jitter=0.5)
    agent = Counting()
    async with pooled(kept(agent, cache)) as pool:
        await outputs(pool, *questions)
        await asyncio.sleep(49.9)
        await outputs(pool, *questions)
        assert len(agent.asked) == 40
        await asyncio.sleep(25.0)
        turns = [await pool.ask(question) for question in questions]
        hits = [turn.marks for turn in turns].count(("cached",))
        assert 10 < hits < 30
        await asyncio.sleep(25.2)
        asked = len(agent.asked)
        await outputs(pool, *questions)
        assert len(agent.asked) == asked + hits


async def test_an_answer_that_is_too_large_is_not_kept() -> None:
    """What others wait for they get all the same."""
    cache = AnswerCache(ttl_s=60.0, max_answer_bytes=20)
    async with pooled(kept(Counting(), cache)) as pool:
        long = "x" * 30
        assert await outputs(pool, "x", "x", long, long) == [
            "1: x",
            "1: x",
            f"2: {long}",
            f"3: {long}",
        ]


async def _with_a_tool(turn: TurnInput, ctx: Context) -> TurnEnd:
    await ctx.emit(ToolCalled(call_id="c", name="clock"))
    await ctx.emit(ToolReturned(call_id="c", result=12))
    return TurnEnd(output="noon")


async def _to_its_limit(turn: TurnInput, ctx: Context) -> TurnEnd:
    return TurnEnd("limit", output="so fa")


async def _degraded(turn: TurnInput, ctx: Context) -> TurnEnd:
    return TurnEnd(output="sorry", marks=("degraded",))


async def _silent(turn: TurnInput, ctx: Context) -> TurnEnd:
    return TurnEnd()


async def _with_a_safe_point(turn: TurnInput, ctx: Context) -> TurnEnd:
    await ctx.checkpoint(b"half")
    return TurnEnd(output="done", append=b"whole")


@pytest.mark.parametrize(
    ("run", "state_format"),
    [
        (_with_a_tool, ""),
        (_to_its_limit, ""),
        (_degraded, ""),
        (_silent, ""),
        (_with_a_safe_point, "s/1"),
    ],
    ids=["tool", "limit", "marked", "silent", "safe point"],
)
async def test_what_is_no_plain_answer_is_not_kept(
    run: Callable[[TurnInput, Context], Awaitable[TurnEnd]], state_format: str
) -> None:
    """A tool's effect or result, half an answer, one that is worse than usual, none at all."""
    asked = 0

    async def counted(turn: TurnInput, ctx: Context) -> TurnEnd:
        nonlocal asked
        asked += 1
        return await run(turn, ctx)

    async with pooled(kept(Scripted(counted, state_format=state_format))) as pool:
        for session in ("one", "two"):
            turn = await pool.ask("x", session=session)
            assert "cached" not in turn.marks
    assert asked == 2


async def test_a_turn_that_paused_is_not_kept() -> None:
    """Neither its question nor what it says once a human has decided."""
    asked = 0

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        nonlocal asked
        asked += 1
        if not turn.resume:
            await ctx.gate(ToolCall("c", "mail"))
            return TurnEnd("paused", state=b"s")
        return TurnEnd(output="sent", state=b"t")

    spec = kept(Scripted(run, state_format="p/1"), gate=lambda principal, call: Decision("ask"))
    async with pooled(spec) as pool:
        for session in ("one", "two"):
            turn = await pool.ask("x", session=session)
            await pool.decide(turn.id, "c", "approve", principal=ANYONE)
            assert (await pool.wait(turn.id)).output == "sent"
    assert asked == 4


async def test_an_answer_with_the_help_of_another_agent_is_not_kept() -> None:
    """That agent's turn is part of it."""
    asked = 0

    async def boss(text: str) -> str:
        nonlocal asked
        asked += 1
        return (await pool.ask(text, agent="helper")).output

    async with pooled({"boss": kept(boss), "helper": kept(Counting())}) as pool:
        # what the helper said is kept: it asked nobody
        assert await outputs(pool, "x", "x") == ["1: x", "1: x"]
    assert asked == 2


async def test_a_mistake_of_the_agent_is_not_kept() -> None:
    """It is the agent's to mend, and then it is asked again."""
    ends: list[Any] = [TurnEnd(output=3), TurnEnd(output="3")]  # type: ignore[arg-type]

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        end: TurnEnd = ends.pop(0)
        return end

    async with pooled(scripted(run)) as pool:
        with pytest.raises(AgentFailed):
            await pool.ask("x")
        assert await outputs(pool, "x", "x") == ["3", "3"]


async def test_what_is_stored_and_no_answer_is_as_if_it_were_not_there() -> None:
    """Bytes of somebody else are asked over."""

    class Garbled(MemoryAnswers):
        async def get(self, key: str) -> bytes | None:
            return b"\xc1" if await super().get(key) else None

    store = Garbled(max_entries=9, max_bytes=10**6, clock=asyncio.get_running_loop().time)
    async with pooled(kept(Counting()), answers=store) as pool:
        assert await outputs(pool, "x", "x") == ["1: x", "2: x"]


# --- equal questions at the same time


async def test_fifty_equal_questions_at_once_cost_one_answer() -> None:
    """Those that had an actor waited for the first; the others found it kept."""
    agent = Held()
    notices = Notices()
    async with pooled(kept(agent, max=8), observers=[notices]) as pool:
        asking = [asyncio.create_task(pool.ask("x")) for _ in range(50)]
        await agent.until_started(1)
        await ticks(200)
        await agent.let_all()
        turns = await asyncio.gather(*asking)

    assert agent.started == ["x"]
    assert {turn.output for turn in turns} == {"done: x"}
    assert [turn.marks for turn in turns].count(("cached",)) == 49
    assert sum(turn.usage.cost_usd == 0.0 for turn in turns) == 49
    steps = [notice.step for notice in notices.of(ModelDecidedNotice)]
    assert steps.count("shared") == 7
    assert steps.count("cached") == 42


async def submitted(pool: AgentPool, count: int, **options: Any) -> list[Turn]:
    """So many equal questions, one after the other; each has come as far as it comes."""
    turns = []
    for _ in range(count):
        turns.append(await pool.submit("x", **options))
        await ticks(20)
    return turns


async def test_when_the_first_fails_the_others_ask_together() -> None:
    """A provider that is gone must not keep them one by one."""

    async def gone(turn: TurnInput, ctx: Context) -> TurnEnd:
        await asyncio.sleep(60)
        raise AgentFailed("the provider is gone")

    clock = asyncio.get_running_loop().time
    async with pooled(kept(Scripted(gone), max=8)) as pool:
        began = clock()
        turns = await submitted(pool, 5)
        states = [(await pool.wait(turn.id, timeout_s=500)).state for turn in turns]
        took_s = clock() - began

    assert states == ["failed"] * 5
    assert took_s == pytest.approx(120, abs=1)


async def test_an_answer_after_the_gate_was_asked_is_not_kept() -> None:
    """Whatever events the agent tells of it: what it may do is another thing for another caller."""
    done: list[str] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        decision = await ctx.gate(ToolCall("c1", "send"))
        if decision.action == "allow":
            done.append(turn.input)
        return TurnEnd(output=decision.action)

    def admins(principal: Principal, call: ToolCall) -> Decision:
        return Decision("allow" if "admin" in principal.roles else "deny")

    async with pooled(kept(Scripted(run), gate=admins)) as pool:
        denied = await pool.ask("send it", principal=Principal("acme", "ann"))
        admin = Principal("acme", "bob", ("admin",))
        allowed = [await pool.ask("send it", principal=admin) for _ in range(2)]
    assert (denied.output, [turn.output for turn in allowed]) == ("deny", ["allow", "allow"])
    assert done == ["send it", "send it"]


async def test_when_the_first_is_cancelled_the_next_one_asks() -> None:
    """It leaves its equals as they were, waiting."""
    agent = Held()
    async with pooled(kept(agent, max=8)) as pool:
        first, second, third = await submitted(pool, 3)
        await pool.cancel(first.id)
        await agent.until_started(2)
        await agent.let_all()
        states = [await pool.wait(turn.id) for turn in (first, second, third)]

    assert [turn.state for turn in states] == ["cancelled", "completed", "completed"]
    assert [turn.marks for turn in states] == [(), (), ("cached",)]
    assert agent.started == ["x", "x"]


async def test_one_that_waits_may_leave() -> None:
    """By cancellation or its deadline; the others do not notice."""
    agent = Held()
    async with pooled(kept(agent, max=8)) as pool:
        first, second = await submitted(pool, 2)
        (hasty,) = await submitted(pool, 1, deadline_s=5.0)
        (last,) = await submitted(pool, 1)
        await pool.cancel(second.id)
        assert (await pool.wait(hasty.id)).state == "expired"
        await agent.let_all()
        ended = [await pool.wait(turn.id) for turn in (first, second, last)]

    assert [turn.state for turn in ended] == ["completed", "cancelled", "completed"]
    assert ended[2].marks == ("cached",)
    assert agent.started == ["x"]


@pytest.mark.parametrize("steps", range(8))
async def test_one_that_is_cancelled_as_it_gets_the_lead_passes_it_on(steps: int) -> None:
    """The lead is never lost, in whichever step of the loop who has it goes."""
    asked: list[str] = []
    going = asyncio.Event()

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        asked.append(ctx.turn_id)
        if len(asked) > 1:
            return TurnEnd(output="answered")
        await going.wait()
        await ticks(steps)
        raise AgentFailed("not now")

    async def cancel() -> None:
        await going.wait()
        await pool.cancel(second.id)

    async with pooled(scripted(run, max=8)) as pool:
        first, second, third = await submitted(pool, 3)
        cancelling = asyncio.create_task(cancel())
        await ticks()
        going.set()
        await cancelling
        ended = [await pool.wait(turn.id) for turn in (first, second, third)]

    assert [turn.state for turn in ended] == ["failed", "cancelled", "completed"]


async def test_an_agent_that_never_comes_back_holds_nobody_up() -> None:
    """Once its turn is given up the next one asks."""
    agent = Stubborn()
    async with pooled(kept(agent, max=8), cancel_grace_s=1.0) as pool:
        first, second, third = await submitted(pool, 3)
        await pool.cancel(first.id)
        ended = [await pool.wait(turn.id) for turn in (first, second, third)]
        agent.release.set()
        await agent.through.wait()
        # what the first one says after all is not kept
        assert (await pool.ask("x")).output == "obedient"

    assert [turn.state for turn in ended] == ["cancelled", "completed", "completed"]
    assert [turn.output for turn in ended] == ["", "obedient", "obedient"]
    assert agent.runs == 2


async def test_when_the_answer_is_not_for_others_all_ask() -> None:
    """At the same time, not one after the other."""
    going = asyncio.Event()
    running: list[str] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        running.append(ctx.turn_id)
        if len(running) == 1:
            await going.wait()
        else:
            await asyncio.sleep(1.0)
        return await _with_a_tool(turn, ctx)

    async with pooled(scripted(run, max=8)) as pool:
        turns = await submitted(pool, 4)
        assert len(running) == 1
        going.set()
        began = asyncio.get_running_loop().time()
        ended = [await pool.wait(turn.id) for turn in turns]
        assert asyncio.get_running_loop().time() - began < 1.5

    assert [turn.output for turn in ended] == ["noon"] * 4
    assert len(running) == 4


async def test_agents_that_ask_each_other_do_not_wait_in_a_circle() -> None:
    """A turn that another waits for asks, rather than wait for an equal one."""
    both = asyncio.Barrier(2)
    runs: list[str] = []

    async def asks(text: str, ctx: Context) -> str:
        runs.append(ctx.agent)
        if runs.count(ctx.agent) > 1:
            return "deep"
        await both.wait()
        return (await pool.ask(text, agent="b" if ctx.agent == "a" else "a")).output

    async with pooled({"a": kept(asks), "b": kept(asks)}) as pool:
        turns = await asyncio.gather(*(pool.ask("x", agent=name) for name in ("a", "b")))

    assert [turn.output for turn in turns] == ["deep", "deep"]
    assert sorted(runs) == ["a", "a", "b", "b"]
