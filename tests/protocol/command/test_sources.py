from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pool.errors import ConfigError
from protocol.command.sources import (
    from_environment,
    from_file,
    from_targets,
    gather,
    store_settings,
)
from protocol.settings import Option, Settings, StoreSettings


def gathered(
    directory: Path,
    *targets: str,
    flags: tuple[Option, ...] = (),
    environ: Mapping[str, str] | None = None,
    file: str | None = None,
) -> Settings:
    """The settings from the sources given."""
    return gather(targets, flags, environ or {}, file=file, directory=directory)


def test_the_command_line_goes_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Each source has the last word only where a stronger one is silent."""
    (tmp_path / "actorpool.toml").write_text(
        "[server]\nport = 1\ndrain_s = 1.5\nbacklog = 7\n[pool]\nqueue_max = 5\n"
    )
    settings = gathered(
        tmp_path,
        flags=(Option(("server", "port"), "3", "--port", from_text=True),),
        environ={"ACTORPOOL_SERVER_PORT": "2", "ACTORPOOL_SERVER_DRAIN_S": "2.5", "HOME": "x"},
    )
    server = settings.server
    assert (server.port, server.drain_s, server.backlog) == (3, 2.5, 7)
    assert settings.pool.queue_max == 5


def test_without_an_agent_there_is_the_demo(tmp_path: Path) -> None:
    """Whoever names no agent gets one for a first try, with its gate; --max holds for it."""
    settings = gathered(
        tmp_path, flags=(Option(("agents", "*", "max"), "2", "--max", from_text=True),)
    )
    (agent,) = settings.agents.values()
    assert agent.target == "pool.agents.demo:demo"
    assert agent.gate == "pool.agents.demo:demo_gate"
    assert agent.max == 2


def test_the_first_agent_named_comes_first(tmp_path: Path) -> None:
    """Those of the command line go before those of the file, the file's options hold for them."""
    (tmp_path / "actorpool.toml").write_text(
        '[agents]\nold = "m:old"\n[agents.new]\ntarget = "m:other"\nmax_steps = 3\n'
    )
    settings = gathered(tmp_path, "m:new")
    assert list(settings.agents) == ["new", "old"]
    assert settings.agents["new"].target == "m:new"
    assert settings.agents["new"].max_steps == 3


def test_the_environment_names_options_of_agents(tmp_path: Path) -> None:
    """A name's capitals and dashes do not matter; one that nobody named is a new agent."""
    settings = gathered(
        tmp_path,
        "My-Agent=m:a",
        environ={
            "ACTORPOOL_AGENTS_MY_AGENT_MAX_STEPS": "3",
            "ACTORPOOL_AGENTS_OTHER_TARGET": "m:b",
        },
    )
    assert settings.agents["My-Agent"].max_steps == 3
    assert settings.agents["other"].target == "m:b"


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("ACTORPOOL_SERVER_PRT", "did you mean ACTORPOOL_SERVER_PORT?"),
        ("ACTORPOOL_SERVR_PORT", "did you mean ACTORPOOL_SERVER_PORT?"),
        ("ACTORPOOL_STORE", "did you mean ACTORPOOL_STORE_URL?"),
        ("ACTORPOOL_QUEUE_MAX", "did you mean ACTORPOOL_POOL_QUEUE_MAX?"),
        ("ACTORPOOL_XYZ", "write ACTORPOOL_<SECTION>_<OPTION>"),
        ("ACTORPOOL_AGENTS_A", "of an agent ACTORPOOL_AGENTS_<NAME>_<OPTION>"),
    ],
)
def test_an_unknown_variable_is_a_mistake(variable: str, message: str) -> None:
    """What begins like a variable of ours must be one."""
    with pytest.raises(ConfigError) as raised:
        from_environment({variable: "1"}, agents=[])
    assert raised.value.option == variable
    assert message in raised.value.remedy


def test_a_mistake_does_not_tell_what_may_be_a_secret(tmp_path: Path) -> None:
    """The value of what nobody knows is not repeated."""
    with pytest.raises(ConfigError) as variable:
        from_environment({"ACTORPOOL_WEBHOOK_SECRET": "whsec_canary"}, agents=[])
    assert "did you mean ACTORPOOL_WEBHOOKS_SECRET?" in str(variable.value)
    path = tmp_path / "actorpool.toml"
    path.write_text('[webhook]\nsecret = "whsec_canary"\n')
    with pytest.raises(ConfigError) as section:
        from_file(path, named_by="--config")
    assert "did you mean webhooks?" in str(section.value)
    assert "canary" not in str(variable.value) + str(section.value)


def test_the_store_of_a_server_is_found_without_its_agents(tmp_path: Path) -> None:
    """An operator's command has the same sources; its own option goes over them."""
    (tmp_path / "actorpool.toml").write_text('[store]\nurl = "sqlite:a.db"\nlease_s = 3\n')

    def found(url: str | None) -> StoreSettings:
        return store_settings(url, {}, named_by="--from", file=None, directory=tmp_path)

    assert (found(None).url, found(None).lease_s) == ("sqlite:a.db", 3)
    assert found("memory").url == "memory"
    with pytest.raises(ConfigError, match=r"^--from = 'tape': write memory, "):
        found("tape")


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    """ACTORPOOL_CONFIG names the file unless --config does."""
    (tmp_path / "one.toml").write_text("[server]\nport = 1\n")
    (tmp_path / "two.toml").write_text("[server]\nport = 2\n")
    environ = {"ACTORPOOL_CONFIG": str(tmp_path / "one.toml")}
    assert gathered(tmp_path, environ=environ).server.port == 1
    two = str(tmp_path / "two.toml")
    assert gathered(tmp_path, environ=environ, file=two).server.port == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[server", "is not TOML"),
        (b"\xff", "is not UTF-8"),
        (b"[sever]\nport = 1\n", "did you mean server?"),
        (b"[zzz]\n", "there is no such section: [server], "),
        (b"server = 1\n", "write [server] and its options below"),
        (b"[agents]\na = 1\n", 'write "module:attribute", or a table of options'),
        (b'[agents]\n"a b" = "m:a"\n', "an agent's name is 1 to 64 letters"),
    ],
)
def test_a_mistake_in_the_file_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that cannot be understood says where and how to write it."""
    path = tmp_path / "actorpool.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        from_file(path, named_by="--config")
    assert message in raised.value.remedy


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A file that was named must be there, and be one."""
    with pytest.raises(ConfigError, match=r"^--config = .*there is no such file"):
        from_file(tmp_path / "none.toml", named_by="--config")
    with pytest.raises(ConfigError, match="cannot be read"):
        from_file(tmp_path, named_by="--config")


def test_an_agent_is_called_like_its_attribute() -> None:
    """Without a name before it, the last part of the attribute is the name."""
    options = from_targets(["app:support", "app.sub:made.inner", "NAME=app:other"])
    assert [option.path[1] for option in options] == ["support", "inner", "NAME"]
    assert [option.value for option in options] == [
        "app:support",
        "app.sub:made.inner",
        "app:other",
    ]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["a b=app:x"], "an agent's name is 1 to 64 letters"),
        (["app:"], "an agent's name is 1 to 64 letters"),
        (["app:x", "other:x"], "two agents are called x: write OTHER_NAME=other:x"),
    ],
)
def test_a_mistake_in_a_name_is_said(targets: list[str], message: str) -> None:
    """A name is an id, and one agent's."""
    with pytest.raises(ConfigError) as raised:
        from_targets(targets)
    assert message in raised.value.remedy
