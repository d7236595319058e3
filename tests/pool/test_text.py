"""Text that an agent said."""

from __future__ import annotations

import pytest

from pool import AgentPool, TextDelta
from pool.text import writable


@pytest.mark.parametrize(
    ("text", "expected"),
    [("abc", ("abc", 3)), ("é", ("é", 2)), ("a\ud800é", ("a?é", 4)), ("", ("", 0))],
)
def test_text_is_made_writable(text: str, expected: tuple[str, int]) -> None:
    """What UTF-8 cannot hold is replaced; the size is in bytes."""
    assert writable(text) == expected


async def test_a_lone_surrogate_reaches_nobody() -> None:
    """Whether streamed or returned, it is replaced before anything stores or sends it."""

    async def returned(text: str) -> str:
        return "\udfff!"

    async def streamed(text: str):
        yield "\ud800"
        yield "!"

    async with AgentPool({"returned": returned, "streamed": streamed}) as pool:
        for agent in ("returned", "streamed"):
            events = [event async for event in pool.stream("x", agent=agent)]
            said = [event.text for event in events if isinstance(event, TextDelta)]
            assert "".join(said) == "?!"
