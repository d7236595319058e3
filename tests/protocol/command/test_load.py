from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool.agents.chat import ChatFactory
from pool.agents.demo import demo, demo_gate
from pool.config import AgentSpec
from pool.errors import ConfigError
from protocol.command.load import load
from protocol.settings import AgentSettings

SECRET = "canary-91ee"

SOURCES = {
    "agents.py": "\n".join(
        [
            "from pool import AgentSpec",
            "async def echo(text): return text",
            "class made: helper = staticmethod(echo)",
            "spec = AgentSpec(agent=echo, description='mine', max=3)",
            "number = 7",
        ]
    ),
    "raises.py": f"raise ValueError({SECRET!r})",
    "leaves.py": "import sys; sys.exit(3)",
    "broken.py": "def (",
    "needy.py": "import a_module_that_is_not_there",
}


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, source in SOURCES.items():
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in SOURCES:
        sys.modules.pop(name.removesuffix(".py"), None)


def loaded(**settings: object) -> AgentSpec:
    """The one agent that the settings make."""
    agent = AgentSettings(**settings)  # type: ignore[arg-type]
    return load({"a": agent}, {"OPENAI_API_KEY": "key"})["a"]


def test_an_attribute_is_found() -> None:
    """A target is a module and an attribute, which may go on with dots."""
    echo = loaded(target="agents:echo").agent
    assert echo.__name__ == "echo"
    assert loaded(target="agents:made.helper").agent is echo


def test_what_is_not_said_is_the_specs_default() -> None:
    """Only the options that were given are set."""
    assert loaded(target="agents:echo") == AgentSpec(agent=loaded(target="agents:echo").agent)
    assert loaded(target="agents:echo", max=2).max == 2


def test_a_specification_is_taken_as_it_is() -> None:
    """A target may be an AgentSpec; options go over it."""
    spec = loaded(target="agents:spec", min=2)
    assert (spec.description, spec.min, spec.max) == ("mine", 2, 3)


def test_a_gate_is_found() -> None:
    """The gate is named like the target."""
    spec = loaded(target="pool.agents.demo:demo", gate="pool.agents.demo:demo_gate")
    assert (spec.agent, spec.gate) == (demo, demo_gate)


def test_a_model_is_an_agent() -> None:
    """A model is served by the built-in agent."""
    made = loaded(model="openai:some-model", instructions="be kind").agent
    assert isinstance(made, ChatFactory)
    assert made.instructions == "be kind"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "agents"}, "agent a = 'agents': write MODULE:ATTRIBUTE"),
        ({"target": ":x"}, "write MODULE:ATTRIBUTE"),
        ({"target": "nowhere:x"}, "there is no module nowhere: run in its directory"),
        ({"target": "nowhere.sub:x"}, "there is no module nowhere: run in its directory"),
        ({"target": "agents.sub:x"}, "there is no module agents.sub"),
        ({"target": "needy:x"}, "module needy needs a_module_that_is_not_there"),
        ({"target": "agents:ecko"}, "agents has no attribute ecko: did you mean echo?"),
        ({"target": "agents:zzz"}, "agents has no attribute zzz: it has AgentSpec, echo"),
        ({"target": "agents:number"}, "agents.a.agent = 'int': give an async function"),
        ({"target": "raises:x"}, "importing raises failed with ValueError at raises:1"),
        ({"target": "leaves:x"}, "importing leaves failed with SystemExit at leaves:1"),
        ({"target": "broken:x"}, "importing broken failed with SyntaxError at broken.py:1"),
        ({"target": "agents:echo", "min": 9, "max": 2}, "agents.a.min = 9: at most max"),
        ({"target": "agents:echo", "gate": "agents:none"}, "agents.a.gate = 'agents:none'"),
        ({"model": "some-model"}, "model = 'some-model': write openai:NAME"),
        ({"model": "other:some-model"}, "write openai:NAME"),
        ({"model": "openai:"}, "write openai:NAME"),
        ({}, 'agents.a.target = None: write "module:attribute", or a model'),
    ],
)
def test_a_mistake_says_what_to_write(settings: dict[str, object], message: str) -> None:
    """What cannot be had is named with the reason, never with an exception's text."""
    with pytest.raises(ConfigError) as raised:
        loaded(**settings)
    assert message in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_model_needs_a_key() -> None:
    """Without a key the variable that is missing is named."""
    agents = {"a": AgentSettings(model="openai:some-model")}
    with pytest.raises(ConfigError, match=r"^OPENAI_API_KEY = ''.*set this variable"):
        load(agents, {})


def test_an_address_that_is_none_is_a_mistake() -> None:
    """The provider's address is read with the key."""
    agents = {"a": AgentSettings(model="openai:some-model")}
    with pytest.raises(ConfigError, match="write an http or https address"):
        load(agents, {"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": "nowhere"})
