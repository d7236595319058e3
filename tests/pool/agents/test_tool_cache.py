"""Results of tools that are used again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pool.agent import Context, ToolCall, TurnInput
from pool.agents import tool_cache
from pool.agents.tool_cache import ResultCache
from pool.agents.tool_results import Result
from pool.agents.tools import Tool
from pool.errors import ConfigError
from pool.events import ToolReturned
from pool.turn import Principal
from tests.support.chat_agents import agent_of, deny
from tests.support.context import RecordingContext
from tests.support.scripted_model import calls, says


class Weather:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def weather(self, city: str, days: int = 1) -> dict[str, Any]:
        """What the weather is."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"city": city, "asked": self.asked}


async def ask(tool: Tool, arguments: dict[str, Any], tenant: str = "a", **more: Any) -> Any:
    """What readers see of a call."""
    ctx = RecordingContext(principal=Principal(tenant, "ann"), **more)
    await agent_of(calls(("weather", arguments)), says("ok"), tools=[tool]).run(TurnInput("x"), ctx)
    return ctx.returned[0]


async def test_the_same_call_of_a_tenant_has_the_same_result():
    """In any actor, until the time is over; the readers see no difference."""
    weather = Weather()
    tool = Tool(weather.weather, risk="read", cache_s=60)
    for _ in range(3):
        assert await ask(tool, {"city": "Bern"}) == ToolReturned(
            "s1c0", {"city": "Bern", "asked": 1}
        )
    await asyncio.sleep(60)
    assert (await ask(tool, {"city": "Bern"})).result == {"city": "Bern", "asked": 2}


async def test_another_tenant_or_other_arguments_are_another_call():
    """Nobody gets what came of somebody else's call, or of another."""
    weather = Weather()
    tool = Tool(weather.weather, risk="read", cache_s=60)
    await ask(tool, {"city": "Bern"})
    await ask(tool, {"city": "Bern"}, tenant="b")
    await ask(tool, {"city": "bern"})
    await ask(tool, {"city": "Bern", "days": 1})
    assert weather.asked == 4
    await ask(tool, {"days": 1, "city": "Bern"})
    assert weather.asked == 4


async def test_a_failure_is_not_kept():
    """The next call is made."""
    weather = Weather()
    weather.error = ValueError("away")
    tool = Tool(weather.weather, risk="read", cache_s=60)
    assert (await ask(tool, {"city": "Bern"})).is_error
    weather.error = None
    assert not (await ask(tool, {"city": "Bern"})).is_error


async def test_the_gate_is_asked_before_the_cache():
    """What may not be called is not answered from what others may."""
    tool = Tool(Weather().weather, risk="read", cache_s=60)
    await ask(tool, {"city": "Bern"})
    refused = await ask(tool, {"city": "Bern"}, policy=deny)
    assert refused.result == "denied: not on Sundays"


async def test_a_cache_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """What was used longest ago goes first; the cut result is what is kept."""
    monkeypatch.setattr(tool_cache, "RESULTS_MAX", 2)
    cache = ResultCache("t", 60)
    for n in range(3):
        await cache.put("a", {"n": n}, Result(str(n), n))
    assert [await cache.get("a", {"n": n}) for n in range(3)] == [
        None,
        Result("1", 1),
        Result("2", 2),
    ]


async def test_who_changes_a_result_changes_no_others():
    """Each call has its own."""
    cache = ResultCache("t", 60)
    await cache.put("a", {}, Result("[1]", [1]))
    first = await cache.get("a", {})
    assert first is not None
    first.shown.append(2)
    assert await cache.get("a", {}) == Result("[1]", [1])


async def reads(city: str, ctx: Context) -> str:
    """Something for the caller alone."""
    return city


async def knows(city: str, call: ToolCall) -> str:
    """Something about the call."""
    return city


async def plain(city: str) -> str:
    """Something for all."""
    return city


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (plain, {}),
        (plain, {"risk": "write"}),
        (plain, {"risk": "dangerous"}),
        (reads, {"risk": "read"}),
        (knows, {"risk": "read"}),
    ],
)
def test_what_has_effects_or_knows_its_caller_is_not_kept(function: Any, options: Any):
    """Only a tool that says that it reads, and that is handed nothing of the turn, may be."""
    with pytest.raises(ConfigError) as caught:
        Tool(function, cache_s=60, **options)
    assert caught.value.option == f"tools.{function.__name__}.cache_s"


def test_a_time_that_is_none_is_refused():
    """Zero seconds are not worth a cache."""
    with pytest.raises(ConfigError):
        Tool(plain, risk="read", cache_s=0)
