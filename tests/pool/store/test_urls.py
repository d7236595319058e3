from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pool.errors import ConfigError
from pool.store.limits import Retention
from pool.store.memory import MemoryStore
from pool.store.memory_limits import MemoryLimits
from pool.store.urls import scheme_of, sqlite_path, store_of, without_password

PASSWORD = "canary-77fa"


def made(url: str, retention: Retention | None = None) -> object:
    """The store of a URL, not opened."""
    return store_of(url, retention=retention or Retention(), lease_s=10.0)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/lib/pool.db", "/var/lib/pool.db"),
        ("sqlite:////var/lib/pool.db", "/var/lib/pool.db"),
        ("sqlite:/var/lib/pool.db", "/var/lib/pool.db"),
        ("sqlite:///a%20b%3F.db", "/a b?.db"),
        ("sqlite:///a b.db", "/a b.db"),
        ("sqlite:pool.db", "{here}/pool.db"),
        ("sqlite:./pool.db", "{here}/pool.db"),
        ("sqlite:sub/../other/pool.db", "{here}/other/pool.db"),
    ],
)
def test_a_file_is_named_by_its_path(
    url: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows the slashes of a URL is a path from the root; without them it is from here."""
    monkeypatch.chdir(tmp_path)
    found = sqlite_path(url)
    assert found is not None
    assert str(found) == path.format(here=tmp_path)


@pytest.mark.parametrize("url", ["sqlite:///:memory:", "sqlite://:memory:", "sqlite::memory:"])
def test_a_database_may_be_in_memory(url: str) -> None:
    """The name that SQLite has for it is understood however many slashes are before it."""
    assert sqlite_path(url) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://pool.db", "a file has no host: write sqlite:///pool.db, or sqlite:pool.db"),
        ("sqlite:", "name a file"),
        ("sqlite:///", "name a file"),
        ("sqlite:///var/lib/", "name a file"),
        ("sqlite:..", "name a file"),
        ("sqlite:///a%00b", "name a file"),
        ("sqlite:///pool.db?mode=ro", "takes no options"),
        ("sqlite:///pool.db#1", "takes no options"),
    ],
)
def test_what_names_no_file_is_a_mistake(url: str, message: str) -> None:
    """The message says how to write it."""
    with pytest.raises(ConfigError, match=message):
        made(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tape",
        "memory:",
        "memory://",
        "Memory",
        "postgres://h/db",
        "http://h",
        "redis",
        "sqlite",
    ],
)
def test_other_urls_are_a_mistake(url: str) -> None:
    """The message lists what there is."""
    with pytest.raises(ConfigError, match=r"write memory, sqlite:///path/to/file\.db, redis://"):
        made(url)


@pytest.mark.parametrize("scheme", ["sqlite", "redis", "rediss", "redis+sentinel", "redis+cluster"])
def test_schemes_are_known(scheme: str) -> None:
    """What comes before the colon says which store it is."""
    assert scheme_of(f"{scheme}://x") == scheme
    assert scheme_of("memory") == "memory"


def test_memory_takes_its_limits() -> None:
    """What is said for all stores holds for memory too; its own limits keep their defaults."""
    store = made("memory", Retention(session_ttl_s=5))
    assert isinstance(store, MemoryStore)
    assert store.limits == MemoryLimits(session_ttl_s=5)
    store = made("memory", MemoryLimits(max_sessions=7))
    assert isinstance(store, MemoryStore)
    assert store.limits.max_sessions == 7


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        (f"redis://:{PASSWORD}@h:1/0", "redis://***@h:1/0"),
        (f"rediss://user:{PASSWORD}@h", "rediss://***@h"),
        (f"redis://u:{PASSWORD}@odd/@h", "redis://***@h"),
        (f"redis+sentinel://:{PASSWORD}@a:1,b:2/s/0", "redis+sentinel://***@a:1,b:2/s/0"),
        (f"redis://h?password={PASSWORD}&db=1", "redis://h?password=***&db=1"),
        (f"redis://h?sentinel_password={PASSWORD}", "redis://h?sentinel_password=***"),
        (f"POSTGRES://u:{PASSWORD}@h", "POSTGRES://***@h"),
        ("sqlite:///a@b.db", "sqlite://***@b.db"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    """Rather too much of a URL is hidden than too little."""
    assert without_password(url) == shown


def test_a_mistake_does_not_tell_the_password() -> None:
    """An unknown scheme is said without what follows it in secret."""
    with pytest.raises(ConfigError) as raised:
        made(f"reddis://u:{PASSWORD}@h")
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
def test_the_extra_is_named_where_it_is_missing(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library the mistake says what to install, and no password."""
    for name in [name for name in sys.modules if name.startswith("pool.store.redis")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("redis", "hiredis"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r'pip install "actorpool\[redis\]"') as raised:
        made(f"{scheme}://:{PASSWORD}@h")
    assert PASSWORD not in str(raised.value)
