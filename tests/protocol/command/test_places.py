from __future__ import annotations

from pathlib import Path

import pytest

from pool.errors import ConfigError
from protocol.command.places import existing, lasting, said, state_directory, url_of
from protocol.settings import StoreSettings

DEFAULT = StoreSettings()


def files(directory: Path) -> list[Path]:
    """What is in a directory."""
    return list(directory.iterdir())


def test_a_store_that_was_named_is_taken() -> None:
    """What is in the environment does not matter then."""
    assert url_of(StoreSettings(url="memory"), {}) == "memory"


def test_sessions_live_in_the_users_state_directory() -> None:
    """Without a word they are in a file of the user; its path is written as a URL."""
    environ = {"HOME": "/home/ann", "XDG_STATE_HOME": "/state of ann"}
    assert url_of(DEFAULT, environ) == "sqlite:///state%20of%20ann/actorpool/actorpool.db"
    assert said(DEFAULT, environ) == "/state of ann/actorpool/actorpool.db"


@pytest.mark.parametrize(
    ("platform", "environ", "directory"),
    [
        ("linux", {"HOME": "/home/ann"}, "/home/ann/.local/state"),
        ("linux", {"HOME": "/home/ann", "XDG_STATE_HOME": ""}, "/home/ann/.local/state"),
        ("linux", {"XDG_STATE_HOME": "/var/lib/x"}, "/var/lib/x"),
        ("darwin", {"HOME": "/Users/ann"}, "/Users/ann/Library/Application Support"),
        ("darwin", {"HOME": "/Users/ann", "XDG_STATE_HOME": "/x"}, "/x"),
    ],
)
def test_each_system_has_its_state_directory(
    platform: str, environ: dict[str, str], directory: str
) -> None:
    """The one of the XDG specification, or of macOS; whoever sets XDG_STATE_HOME decides."""
    assert state_directory(environ, platform) == Path(directory)


def test_a_user_without_a_home_has_to_say_where() -> None:
    """A service's account may have none: nothing is put anywhere by guess."""
    with pytest.raises(ConfigError, match="there is no HOME to keep sessions in: say where"):
        url_of(DEFAULT, {"HOME": ""})


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("memory", "memory, and end with this process"),
        ("sqlite::memory:", "SQLite's memory, and end with this process"),
        ("sqlite:///var/a%0Ab.db", "/var/a\\u000ab.db"),
        ("redis://u:canary@h:1/0", "redis://***@h:1/0"),
    ],
)
def test_where_sessions_live_is_said_plainly(url: str, text: str) -> None:
    """Without passwords, and in one line."""
    assert said(StoreSettings(url=url), {}) == text


@pytest.mark.parametrize("url", ["memory", "sqlite::memory:"])
async def test_an_operator_cannot_look_into_another_process(url: str) -> None:
    """What is in the memory of a process is nowhere else."""
    settings = StoreSettings(url=url)
    with pytest.raises(ConfigError, match="is of one process alone"):
        async with existing(settings, {}):
            pass
    with pytest.raises(ConfigError, match="is of one process alone"):
        async with lasting(settings, {}):
            pass


async def test_an_operator_makes_no_store(tmp_path: Path) -> None:
    """A file that is not there was misspelt: it is not made."""
    path = tmp_path / "none.db"
    with pytest.raises(ConfigError, match="there is no such file: name the store of the server"):
        async with existing(StoreSettings(url=f"sqlite://{path}"), {}):
            pass
    assert files(tmp_path) == []
