"""What the built-in agent may be made of."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pytest

from pool.agents.adapt import adapt
from pool.agents.calls import CallRules
from pool.agents.chat import chat
from pool.agents.model_spec import ModelSpec
from pool.agents.routing import Route
from pool.errors import ConfigError

ELSEWHERE = ModelSpec(model="openai:y", name="elsewhere", base_url="https://y", api_key="canary\n")


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
        ({"fallbacks": ["gpt"]}, "fallbacks"),
        ({"fallbacks": ["openai:x"]}, "name"),
        ({"fallbacks": ["openai:y"], "others": ["openai:y"]}, "name"),
        ({"fallbacks": [ModelSpec(model="openai:y", api_key="k")]}, "fallbacks.api_key"),
        ({"fallbacks": [ModelSpec(model="openai:y", base_url="y")]}, "fallbacks.base_url"),
        ({"fallbacks": [ELSEWHERE]}, "fallbacks.api_key"),
        ({"others": [ModelSpec(model="openai:y", context_tokens=0)]}, "others.context_tokens"),
        ({"routes": [Route(model="y")]}, "routes.model"),
        ({"last_resort": ""}, "last_resort"),
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
    factory = chat("openai:x", api_key="canary", fallbacks=["openai:y"])
    assert "canary" not in repr((factory, factory.own, ELSEWHERE))


def test_agents_that_answer_alike_say_so():
    """What an answer depends on makes the word for it; keys and rules for failures do not."""
    alike = [{}, {"api_key": "k"}, {"calls": CallRules(retries=1)}, {"last_resort": "sorry"}]
    others: list[dict[str, object]] = [
        {"instructions": "be kind"},
        {"options": {"temperature": 0.1}},
        {"base_url": "https://y"},
        {"fallbacks": ["openai:y"]},
        {"routes": [Route(model="openai:y")]},
        {"plans": {"acme": "gold"}},
    ]

    words = [chat("openai:x", **each).answers_as for each in alike]  # type: ignore[arg-type]
    differing = {chat("openai:x", **each).answers_as for each in others}  # type: ignore[arg-type]
    assert set(words) == {chat("openai:x")().answers_as}
    assert len({*differing, chat("openai:z").answers_as, *words}) == len(others) + 2


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        ({"retries": -1}, "retries"),
        ({"retries": 1, "retry_first_s": 0}, "retry_first_s"),
        ({"retries": 1, "retry_max_s": 0.1}, "retry_max_s"),
        ({"breaker_failures": -1}, "breaker_failures"),
        ({"breaker_failures": 1, "breaker_reset_s": 0}, "breaker_reset_s"),
        ({"calls_max": 0}, "calls_max"),
        ({"calls_max": 1, "calls_window_s": 0}, "calls_window_s"),
    ],
    ids=str,
)
def test_rule_for_calls_that_cannot_be_used_is_named(rules, name):
    """The option is called by the name under which it was given."""
    with pytest.raises(ConfigError) as refused:
        CallRules(**rules)

    assert refused.value.option == name


@pytest.mark.parametrize(
    ("package", "rules", "name"),
    [
        ("stamina", {"retries": 1}, "retries"),
        ("purgatory", {"breaker_failures": 1}, "breaker"),
        ("aiolimiter", {"calls_max": 1}, "calls_max"),
    ],
)
def test_package_that_is_missing_is_named_when_the_agent_is_described(
    package, rules, name, monkeypatch
):
    """What a rule needs is looked for when it is given, and only then; the extra is named."""
    for module in [each for each in sys.modules if each.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [Missing(package), *sys.meta_path])

    chat("openai:x")
    with pytest.raises(ConfigError, match=r"actorpool\[models\]") as refused:
        chat("openai:x", calls=CallRules(**rules))

    assert refused.value.option == name


class Missing(MetaPathFinder):
    """Finds that one package is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse the package; leave all others to the rest."""
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


async def test_chat_is_given_to_a_pool_as_it_is():
    """What `chat` returns is a factory with a name, and each instance has a client."""
    factory = chat("openai:x")
    agent = adapt(factory)()
    await agent.open()
    await agent.close()

    assert factory.__name__ == "chat"
    assert agent.state_format == "chat/1"


def test_key_is_in_no_traceback_that_shows_fields():
    """Libraries that draw tracebacks ask for the fields of what they show."""
    spec = ModelSpec(model="openai:y", name="y", base_url="https://y/", api_key="canary")
    place = chat("openai:x", api_key="canary").own[0]

    assert "canary" not in str([*spec.__rich_repr__(), *place.__rich_repr__()])
    assert "canary" not in repr((spec, place))
