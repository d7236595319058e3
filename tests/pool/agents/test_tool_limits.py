"""What a tool may take: time, places, failures, room for its result."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import structlog

from pool.agent import ToolCall, TurnInput
from pool.agents.conversation import ToolSaid
from pool.agents.threads import Threads
from pool.agents.tool_errors import BadArguments, ToolResting, ToolTimeout
from pool.agents.tools import Tool
from pool.errors import ConfigError
from pool.guard.breaker import BreakerRule
from tests.support.chat_agents import agent_of, agent_with
from tests.support.context import RecordingContext
from tests.support.scripted_model import ScriptedModel, calls, says

BREAKER = BreakerRule(failures=2, reset_s=30)


async def run(tool: Tool, **arguments: Any) -> Any:
    """Check the arguments and call the tool."""
    threads = Threads("tool")
    try:
        call = ToolCall("s1c0", tool.name, arguments)
        return await tool.run(tool.check(arguments), call, RecordingContext(), threads)
    finally:
        threads.stop()


async def never() -> None:
    """Never return."""
    await asyncio.Event().wait()


class Stuck:
    """A synchronous tool that hangs until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.go = threading.Event()
        self.running = 0

    def hang(self) -> str:
        """Hang."""
        self.running += 1
        self.started.set()
        self.go.wait()
        self.running -= 1
        return "late"


# --- time


async def test_a_tool_that_takes_too_long_is_given_up():
    """The call is cancelled, the model is told how long it had, and the turn goes on."""
    ended = []

    async def slow() -> None:
        try:
            await never()
        finally:
            ended.append(asyncio.get_running_loop().time())

    model = ScriptedModel(calls(("slow", {})), says("sorry"))
    ctx = RecordingContext()
    begun = asyncio.get_running_loop().time()
    end = await agent_with(model, [Tool(slow, timeout_s=5)]).run(TurnInput("x"), ctx)
    told = "slow took longer than 5 s and was given up"
    assert model.prompts[1][-1] == ToolSaid("call00100", told)
    assert [(event.result, event.is_error) for event in ctx.returned] == [(told, True)]
    assert ended == [begun + 5]
    assert end.status == "done"


async def test_a_timeout_of_the_tools_own_is_its_failure():
    """A TimeoutError that the tool raises is not taken for its limit."""

    async def raises() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await run(Tool(raises, timeout_s=5))


async def test_a_tool_in_time_has_its_result():
    """Limits that are not reached change nothing."""

    async def quick(n: int) -> int:
        await asyncio.sleep(4)
        return n

    tool = Tool(quick, timeout_s=5, parallel=1, breaker=BREAKER)
    assert await run(tool, n=3) == 3


@pytest.mark.real_time
async def test_the_thread_of_a_tool_that_takes_too_long_is_given_up():
    """Whoever called goes on; the thread ends when it ends, and nobody hears of it."""
    stuck = Stuck()
    with pytest.raises(ToolTimeout, match="hang took longer than"):
        await run(Tool(stuck.hang, timeout_s=0.02))
    await asyncio.to_thread(stuck.started.wait)
    assert stuck.running == 1
    [thread] = [each for each in threading.enumerate() if each.name == "tool hang"]
    assert thread.daemon
    stuck.go.set()
    await asyncio.to_thread(thread.join)


@pytest.mark.real_time
async def test_a_thread_that_fails_after_it_was_given_up_is_not_heard_of():
    """Nothing is left of it, not even an error that nobody looked at."""
    go = threading.Event()

    def fail() -> None:
        go.wait()
        raise ValueError("canary")

    with pytest.raises(ToolTimeout):
        await run(Tool(fail, timeout_s=0.02))
    [thread] = [each for each in threading.enumerate() if each.name == "tool fail"]
    go.set()
    await asyncio.to_thread(thread.join)


@pytest.mark.real_time
async def test_a_cancelled_call_waits_for_its_thread_within_the_limit():
    """Nothing runs on behind a cancelled turn, but no longer than a call may take."""
    stuck = Stuck()
    call = asyncio.create_task(run(Tool(stuck.hang, timeout_s=30)))
    await asyncio.to_thread(stuck.started.wait)
    call.cancel()
    await asyncio.sleep(0)
    assert not call.done()
    stuck.go.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert stuck.running == 0


@pytest.mark.real_time
@pytest.mark.parametrize("error", [ValueError, SystemExit, StopIteration])
async def test_what_a_thread_raises_is_the_calls_error(error: type[BaseException]):
    """Whatever it is, it ends the call and nothing else."""

    def wrong() -> None:
        raise error("x")

    expected = error if error is ValueError else RuntimeError
    with pytest.raises(expected):
        await run(Tool(wrong, timeout_s=10))


# --- places


async def test_calls_at_once_are_those_of_all_actors():
    """However many actors call it, no more than `parallel` run; the others wait their turn."""
    running = most = 0

    async def count() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        return "ok"

    tool = Tool(count, parallel=2)
    agents = [agent_of(calls(("count", {})), says("done"), tools=[tool]) for _ in range(6)]
    ctxs = [RecordingContext() for _ in agents]
    await asyncio.gather(
        *(agent.run(TurnInput("x"), ctx) for agent, ctx in zip(agents, ctxs, strict=True))
    )
    assert most == 2
    assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)
    assert {ctx.returned[0].result for ctx in ctxs} == {"ok"}


async def test_waiting_for_a_place_counts_as_time():
    """Who gets none in time is told so; the tool is not called for it."""
    called = 0

    async def hang() -> None:
        nonlocal called
        called += 1
        await never()

    tool = Tool(hang, parallel=1, timeout_s=5)
    came = await asyncio.gather(run(tool), run(tool), return_exceptions=True)
    assert [type(one) for one in came] == [ToolTimeout, ToolTimeout]
    assert str(came[1]).startswith("hang had no place free within 5 s")
    assert called == 1


@pytest.mark.parametrize("seconds", [0, 1, 2])
async def test_no_place_is_lost_by_cancellation(seconds: int):
    """Cancelled while waiting or running, a call gives back what it had."""

    async def nap() -> str:
        await asyncio.sleep(1.5)
        return "ok"

    tool = Tool(nap, parallel=1)
    tasks = [asyncio.create_task(run(tool)) for _ in range(3)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert await asyncio.wait_for(run(tool), 2) == "ok"


@pytest.mark.real_time
async def test_a_thread_that_was_given_up_keeps_its_place():
    """No more than `parallel` threads ever run, hang as they may."""
    stuck = Stuck()
    tool = Tool(stuck.hang, parallel=1, timeout_s=0.02)
    with pytest.raises(ToolTimeout, match="took longer"):
        await run(tool)
    for _ in range(3):
        with pytest.raises(ToolTimeout, match="no place free"):
            await run(tool)
    await asyncio.to_thread(stuck.started.wait)
    assert stuck.running == 1
    stuck.go.set()
    while True:
        try:
            assert await run(tool) == "late"
            break
        except ToolTimeout:
            continue


@pytest.mark.real_time
async def test_a_thread_that_cannot_start_gives_back_its_place(monkeypatch: pytest.MonkeyPatch):
    """The call has failed, and the next one may run."""

    def greet() -> str:
        return "hi"

    def full(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    tool = Tool(greet, parallel=1, timeout_s=10)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError):
            await run(tool)
    assert await run(tool) == "hi"


def test_a_tool_may_be_used_on_one_loop_after_the_other():
    """Nothing of it belongs to the loop that used it first."""

    async def nap() -> str:
        await asyncio.sleep(0)
        return "ok"

    tool = Tool(nap, parallel=1, timeout_s=10, breaker=BREAKER)

    async def twice() -> list[Any]:
        return list(await asyncio.gather(run(tool), run(tool)))

    for _ in range(2):
        assert asyncio.run(twice()) == ["ok", "ok"]


# --- failures


class Flaky:
    """A tool that fails, hangs or answers as it is told."""

    def __init__(self) -> None:
        self.error: Exception | None = ValueError("canary")
        self.called = 0

    async def look(self) -> str:
        """Look something up."""
        self.called += 1
        await asyncio.sleep(0.5)
        if self.error is not None:
            raise self.error
        return "found"


async def test_a_tool_that_keeps_failing_is_left_alone():
    """The model is told so at once, without a call, until a single one has found it well again."""
    flaky = Flaky()
    tool = Tool(flaky.look, breaker=BREAKER)
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(ValueError, match="canary"):
                await run(tool)
        model = ScriptedModel(calls(("look", {})), says("sorry"))
        await agent_with(model, [tool]).run(TurnInput("x"), RecordingContext())
        assert model.prompts[1][-1] == ToolSaid(
            "call00100",
            "look failed too often and is left alone for now; do without it, or try again in 30 s",
        )
        assert (flaky.called, tool.tripped) == (2, True)
        await asyncio.sleep(30)
        flaky.error = None
        came = await asyncio.gather(*(run(tool) for _ in range(20)), return_exceptions=True)
        assert came.count("found") == 1
        assert sum(isinstance(one, ToolResting) for one in came) == 19
        assert (await run(tool), tool.tripped) == ("found", False)
    assert [(line["tool"], line["state"]) for line in logs] == [
        ("look", "open"),
        ("look", "half_open"),
        ("look", "closed"),
    ]


async def test_a_timeout_is_a_failure():
    """A tool that hangs is left alone as well."""
    tool = Tool(never, timeout_s=1, breaker=BREAKER)
    for _ in range(2):
        with pytest.raises(ToolTimeout):
            await run(tool)
    with pytest.raises(ToolResting):
        await run(tool)


async def test_the_models_mistakes_do_not_break_a_tool():
    """Arguments that a tool itself finds wrong are told to the model, and not counted."""

    async def divide(a: int, b: int) -> float:
        if b == 0:
            raise BadArguments("b must not be 0")
        return a / b

    tool = Tool(divide, breaker=BREAKER)
    for _ in range(5):
        with pytest.raises(BadArguments):
            await run(tool, a=1, b=0)
    assert await run(tool, a=1, b=2) == 0.5
    ctx = RecordingContext()
    wrong = calls(("divide", {"a": 1, "b": 0}))
    await agent_of(wrong, says("sorry"), tools=[tool]).run(TurnInput("x"), ctx)
    assert ctx.returned[0].result == "b must not be 0"


async def test_waiting_in_vain_is_no_failure():
    """A tool that is only busy is not left alone."""

    async def nap() -> str:
        await asyncio.sleep(4)
        return "ok"

    tool = Tool(nap, parallel=1, timeout_s=5, breaker=BREAKER)
    came = await asyncio.gather(*(run(tool) for _ in range(9)), return_exceptions=True)
    assert came.count("ok") == 1
    assert all(isinstance(one, ToolTimeout) for one in came if one != "ok")
    assert await run(tool) == "ok"


async def test_a_cancelled_call_is_neither_failure_nor_success():
    """Turns that are cancelled neither open a breaker nor close it."""
    flaky = Flaky()
    tool = Tool(flaky.look, breaker=BREAKER)
    for _ in range(2):
        with pytest.raises(ValueError, match="canary"):
            await run(tool)
        call = asyncio.create_task(run(tool))
        await asyncio.sleep(0.1)
        call.cancel()
        await asyncio.wait([call])
    with pytest.raises(ToolResting):
        await run(tool)


# --- results


@pytest.mark.parametrize("value", ["x" * 21, ["x" * 20], {"a": "x" * 20}])
async def test_a_result_is_cut_to_the_tools_limit(value: object):
    """The model and readers see its beginning, and how long it was."""

    async def give() -> object:
        return value

    model, ctx = ScriptedModel(calls(("give", {})), says("ok")), RecordingContext()
    await agent_with(model, [Tool(give, max_result_chars=20)]).run(TurnInput("x"), ctx)
    said = model.prompts[1][-1]
    assert isinstance(said, ToolSaid)
    assert said.text.endswith("characters in all]")
    assert len(said.text) < 60
    assert ctx.returned[0].result == said.text


async def test_an_error_is_cut_to_the_tools_limit():
    """What a tool says about its failure is bounded like what it returns."""

    async def fail() -> None:
        raise ValueError("x" * 1_000)

    model = ScriptedModel(calls(("fail", {})), says("ok"))
    await agent_with(model, [Tool(fail, max_result_chars=50)]).run(
        TurnInput("x"), RecordingContext()
    )
    said = model.prompts[1][-1]
    assert isinstance(said, ToolSaid)
    assert len(said.text) < 90


# --- what may be written


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0},
        {"timeout_s": float("inf")},
        {"parallel": 0},
        {"max_result_chars": 0},
        {"risk": "harmless"},
    ],
)
def test_limits_that_cannot_be_are_refused(wrong: Any):
    """The error names the tool and the option."""
    with pytest.raises(ConfigError) as caught:
        Tool(never, **wrong)
    assert caught.value.option == f"tools.never.{next(iter(wrong))}"
