"""What the built-in agent may be made of."""

from __future__ import annotations

import pytest

from pool.agents.adapt import adapt
from pool.agents.chat import chat
from pool.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"model": "gpt-4o"}, "model"),
        ({"model": "openai:"}, "model"),
        ({"model": "other:x"}, "model"),
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": "file:///etc"}, "base_url"),
        ({"base_url": ""}, "base_url"),
        ({"api_key": "a\r\nb"}, "api_key"),
        ({"api_key": ""}, "api_key"),
        ({"max_steps": 0}, "max_steps"),
        ({"parallel_tools": 0}, "parallel_tools"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("inf")}, "timeout_s"),
        ({"context_tokens": 10, "instructions": "x" * 100}, "context_tokens"),
        ({"tools": [42]}, "tools"),
    ],
    ids=str,
)
def test_option_that_cannot_be_used_is_named(options, name):
    """A mistake is found when the agent is described, not when it is asked."""
    with pytest.raises(ConfigError) as refused:
        chat(**{"model": "openai:x", **options})

    assert refused.value.option == name


def test_key_is_shown_nowhere():
    """Neither an error nor the agent's repr holds the key."""
    with pytest.raises(ConfigError) as refused:
        chat("openai:x", api_key="canary\n")

    assert "canary" not in str(refused.value)
    assert "canary" not in repr(chat("openai:x", api_key="canary")())


async def test_chat_is_given_to_a_pool_as_it_is():
    """What `chat` returns is a factory with a name, and each instance has a client."""
    factory = chat("openai:x")
    agent = adapt(factory)()
    await agent.open()
    await agent.close()

    assert factory.__name__ == "chat"
    assert agent.state_format == "chat/1"
