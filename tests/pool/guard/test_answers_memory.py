"""Answers in memory: their time, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest

from pool import AgentSpec
from pool.errors import ConfigError
from pool.guard.answers_config import AnswerCache
from pool.guard.answers_memory import MemoryAnswers
from tests.support.agents import pooled
from tests.support.spending import Clock


def made(max_entries: int = 3, max_bytes: int = 10**6) -> tuple[MemoryAnswers, Clock]:
    """A memory and its clock."""
    clock = Clock(0.0)
    return MemoryAnswers(max_entries=max_entries, max_bytes=max_bytes, clock=clock), clock


async def held(memory: MemoryAnswers, *keys: str) -> list[str]:
    """Those of the keys that are there."""
    return [key for key in keys if await memory.get(key) is not None]


async def test_an_answer_is_there_for_its_time() -> None:
    """Not a moment longer, and then it takes no room."""
    memory, clock = made()
    await memory.put("a", b"answer", 10.0)
    clock.now = 9.9
    assert await memory.get("a") == b"answer"
    clock.now = 10.0
    assert await memory.get("a") is None
    assert repr(memory) == "<MemoryAnswers [0 of 3, 0 of 1000000 bytes]>"


async def test_the_one_goes_that_was_used_longest_ago() -> None:
    """When there are too many; to be asked for is to be used."""
    memory, _ = made(max_entries=3)
    for key in "abc":
        await memory.put(key, b"x", 10.0)
    await memory.get("a")
    await memory.put("d", b"x", 10.0)
    assert await held(memory, *"abcd") == ["a", "c", "d"]


async def test_several_go_for_one_that_is_large() -> None:
    """Bytes are counted, keys and the room of an entry included."""
    memory, _ = made(max_entries=100, max_bytes=2_000)
    for key in "abc":
        await memory.put(key, b"x" * 100, 10.0)
    await memory.put("d", b"x" * 1_200, 10.0)
    assert await held(memory, *"abcd") == ["c", "d"]
    assert repr(memory) == "<MemoryAnswers [2 of 100, 1902 of 2000 bytes]>"


async def test_one_that_does_not_fit_alone_is_not_kept() -> None:
    """Nothing goes for it, but an earlier one under its key, which it replaces."""
    memory, _ = made(max_bytes=1_000)
    await memory.put("a", b"x", 10.0)
    await memory.put("b", b"x", 10.0)
    await memory.put("b", b"x" * 1_000, 10.0)
    assert await held(memory, "a", "b") == ["a"]


async def test_an_answer_is_replaced_with_its_time() -> None:
    """It is counted once."""
    memory, clock = made()
    await memory.put("a", b"old", 10.0)
    clock.now = 5.0
    await memory.put("a", b"new", 10.0)
    clock.now = 12.0
    assert await memory.get("a") == b"new"
    assert repr(memory) == "<MemoryAnswers [1 of 3, 304 of 1000000 bytes]>"


async def test_an_agent_keeps_as_many_answers_as_it_says() -> None:
    """In a pool: the oldest question is asked anew."""
    asked = []

    async def agent(text: str) -> str:
        asked.append(text)
        return text

    spec = AgentSpec(agent=agent, cache=AnswerCache(ttl_s=60.0, max_entries=2))
    async with pooled(spec) as pool:
        for text in "abcca":
            await pool.ask(text)
    assert asked == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ttl_s", 0.0),
        ("ttl_s", float("inf")),
        ("ttl_s", 1e9),
        ("jitter", -0.1),
        ("jitter", 1.0),
        ("jitter", float("nan")),
        ("per", "session"),
        ("max_answer_bytes", 0),
        ("max_entries", 0),
        ("max_bytes", 0),
    ],
)
def test_mistakes_in_the_options_are_named(option: str, value: Any) -> None:
    """With the option and its value."""
    with pytest.raises(ConfigError) as raised:
        AnswerCache(**{"ttl_s": 1.0, option: value})
    assert raised.value.option == option
