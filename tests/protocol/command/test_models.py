from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import stamina

from pool.agents.calls import CallRules
from pool.agents.chat import ChatFactory
from pool.agents.routing import Route
from pool.errors import ConfigError
from protocol.command.load import load
from protocol.settings import Option, assemble

ENVIRON = {
    "OPENAI_API_KEY": "canary-first",
    "OPENAI_BASE_URL": "http://one/v1",
    "OTHER_KEY": "canary-other",
}


@pytest.fixture(autouse=True)
def _hooks() -> Iterator[None]:
    before = stamina.instrumentation.get_on_retry_hooks()
    yield
    stamina.instrumentation.set_on_retry_hooks(before)


def made(environ: dict[str, str] = ENVIRON, **agents: dict[str, Any]) -> list[ChatFactory]:
    """The agents, by name, that these options make; all have a model."""
    options = [
        Option(("agents", agent, name), value, f"agents.{agent}.{name}")
        for agent, given in agents.items()
        for name, value in {"model": "openai:big", **given}.items()
    ]
    return factories(options, environ)


def factories(options: list[Option], environ: dict[str, str] = ENVIRON) -> list[ChatFactory]:
    """What the options make."""
    agents = [spec.agent for spec in load(assemble(options).agents, environ).values()]
    assert all(isinstance(agent, ChatFactory) for agent in agents)
    return cast("list[ChatFactory]", agents)


def test_fallbacks_are_names_or_tables() -> None:
    """A name is at the first model's provider, with its key; a table names its own variable."""
    elsewhere = {
        "model": "openai:small",
        "name": "backup",
        "base_url": "https://two/v1",
        "key_variable": "OTHER_KEY",
        "context_tokens": 200_000,
    }
    (agent,) = made(a={"fallbacks": ["openai:small", elsewhere], "others": ["openai:mini"]})

    assert [place.name for place in (*agent.own, *agent.others)] == [
        "openai:big",
        "openai:small",
        "backup",
        "openai:mini",
    ]
    first, second, third = (place.account for place in agent.own)
    assert first == second == ("http://one/v1", "Bearer canary-first")
    assert third == ("https://two/v1", "Bearer canary-other")
    assert agent.own[2].context_tokens == 200_000


def test_rules_are_read_from_tables() -> None:
    """Routes, plans and the last resort are the agent's."""
    (agent,) = made(
        a={
            "routes": [{"model": "openai:small", "plan": "free", "max_chars": 200}],
            "plans": {"acme": "free"},
            "last_resort": "Later.",
        }
    )

    assert agent.routing.routes == (Route(model="openai:small", plan="free", max_chars=200),)
    assert (agent.routing.plans, agent.last_resort) == ({"acme": "free"}, "Later.")


def test_options_may_come_from_the_environment() -> None:
    """There they are JSON."""
    options = [
        Option(("agents", "a", "model"), "openai:big", "A", from_text=True),
        Option(("agents", "a", "retries"), "2", "B", from_text=True),
        Option(("agents", "a", "fallbacks"), '["openai:small"]', "C", from_text=True),
        Option(("agents", "a", "routes"), '[{"model": "openai:small"}]', "D", from_text=True),
    ]
    (agent,) = factories(options)

    assert (len(agent.own), agent.calls.rules.retries) == (2, 2)
    assert agent.routing.routes == (Route(model="openai:small"),)


def test_agents_with_equal_rules_share_what_calls_teach() -> None:
    """A breaker, a pace and a budget of retries are those of the provider, not of the agent."""
    rules = {"retries": 2, "breaker_failures": 5, "calls_max": 60, "calls_window_s": 30.0}
    first, second, third = made(a=rules, b={**rules, "instructions": "x"}, c={"retries": 1})

    assert first.calls is second.calls
    assert first.calls is not third.calls
    assert first.calls.rules == CallRules(**rules)  # type: ignore[arg-type]


def test_retries_are_not_logged_by_the_library() -> None:
    """In this process its hooks are taken away, once somebody retries."""
    stamina.instrumentation.set_on_retry_hooks([lambda details: None])
    made(a={})
    assert len(stamina.instrumentation.get_on_retry_hooks()) == 1
    made(a={"retries": 1})
    assert stamina.instrumentation.get_on_retry_hooks() == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fallbacks": ["small"]}, "agents.a.fallbacks = 'small': write \"openai:\""),
        ({"fallbacks": ["openai:big"]}, "agents.a.name = 'openai:big': two models have this name"),
        (
            {"fallbacks": [{"model": "openai:x", "base_url": "x", "key_variable": "NO_KEY"}]},
            "NO_KEY = '': openai:x asks for a key: set this variable",
        ),
        ({"fallbacks": [{"model": "openai:x", "api_key": "k"}]}, "agents.a.fallbacks = "),
        ({"routes": [{"model": "x"}]}, "agents.a.routes.model = 'x'"),
        ({"routes": [{"model": "openai:x", "priority": "low"}]}, "agents.a.routes = "),
        (
            {"routes": [{"model": "openai:x", "min_chars": 2, "max_chars": 1}]},
            "agents.a.routes.max_chars = 1",
        ),
        ({"breaker_failures": -1}, "agents.a.breaker_failures = -1"),
        ({"calls_max": 0}, "agents.a.calls_max = 0"),
        ({"last_resort": ""}, "agents.a.last_resort = ''"),
        ({"model": None, "target": "m:a", "retries": 1}, "agents.a.retries = '...': they are for"),
        ({"model": None, "target": "m:a", "fallbacks": ["openai:x"]}, "agents.a.fallbacks = "),
    ],
    ids=str,
)
def test_mistake_is_named_as_it_was_written(options: dict[str, Any], message: str) -> None:
    """The option, its value, and what to write instead; no key is shown."""
    with pytest.raises(ConfigError) as raised:
        made(a=options)

    assert message in str(raised.value)
    assert "canary" not in str(raised.value)
