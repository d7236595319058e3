"""From a URL to the store that it names. What a store needs is imported when it is asked for.

memory                          this process's memory
sqlite:///var/lib/pool.db       the file /var/lib/pool.db
sqlite:pool.db                  the file pool.db in the current directory
sqlite::memory:                 SQLite, in this process's memory
redis://, rediss://             a Redis server, with TLS
redis+sentinel://               the master that sentinels name
redis+cluster://                a Redis Cluster
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote

from msgspec.structs import fields

from pool.errors import ConfigError
from pool.store.base import Store
from pool.store.limits import Retention
from pool.store.memory_limits import MemoryLimits

MEMORY: Final = "memory"
IN_MEMORY: Final = ":memory:"
OPTION: Final = "store.url"
_REDIS: Final = ("redis", "rediss", "redis+sentinel", "redis+cluster")
_FORMS: Final = (
    "write memory, sqlite:///path/to/file.db, redis://host:6379/0, rediss://, redis+sentinel:// "
    "or redis+cluster://"
)


def store_of(
    url: str,
    *,
    retention: Retention,
    lease_s: float,
    synchronous: Literal["full", "normal"] = "full",
    exclusive: bool = True,
) -> Store:
    """The store that a URL names, not opened yet; `ConfigError` says what is wrong with the URL.

    `retention`: how much is kept, and for how long (`MemoryLimits` say more to a memory store).
    `lease_s`: how long a lease outlives its owner. `synchronous`: whether SQLite waits for the disk
    at each commit, or at times. `exclusive`: a SQLite file is this process's
    alone; without it another process may serve from the file meanwhile.
    """
    scheme = scheme_of(url)
    if scheme == MEMORY:
        from pool.store.memory import MemoryStore

        # nobody else can see it: no lease of its one owner ever needs to end
        return MemoryStore(limits=_memory_limits(retention))
    if scheme == "sqlite":
        path = sqlite_path(url) or IN_MEMORY
        from pool.store.sqlite import SqliteStore

        return SqliteStore(
            path,
            retention=retention,
            lease_s=lease_s,
            synchronous=synchronous,
            exclusive=exclusive,
        )
    return _redis_store(url, retention, lease_s)


def check_url(url: str) -> None:
    """`ConfigError` if it names no store, as far as the URL itself tells."""
    if scheme_of(url) == "sqlite":
        sqlite_path(url)


def scheme_of(url: str) -> str:
    """`memory`, `sqlite`, or one of Redis's; `ConfigError` for any other."""
    scheme, colon, _ = url.partition(":")
    known = (MEMORY,) if not colon else ("sqlite", *_REDIS)
    if scheme not in known:
        raise ConfigError(OPTION, without_password(url), _FORMS)
    return scheme


def sqlite_path(url: str) -> Path | None:
    """The file of a `sqlite:` URL, absolute; None for a database in memory."""
    rest = url.removeprefix("sqlite:")
    path, authority = (rest[2:], True) if rest.startswith("//") else (rest, False)
    if path.removeprefix("/") == IN_MEMORY:
        return None
    if authority and not path.startswith("/"):
        remedy = f"a file has no host: write sqlite:///{path}, or sqlite:{path} for one right here"
        raise ConfigError(OPTION, url, remedy)
    if "?" in path or "#" in path:
        raise ConfigError(OPTION, url, "takes no options; a ? or # of the path is %3F or %23")
    file = Path(unquote(path.replace("//", "/", 1)))
    if "\0" in str(file) or path.endswith("/") or file.name in ("", ".."):
        raise ConfigError(OPTION, url, "name a file: sqlite:///path/to/file.db")
    # whoever names the same file, names it alike: it has one lock
    return file.resolve()


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    shown = re.sub(r"^([a-z+]*://).*@", r"\1***@", url, flags=re.IGNORECASE)
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", shown, flags=re.IGNORECASE)


def _memory_limits(retention: Retention) -> MemoryLimits:
    if isinstance(retention, MemoryLimits):
        return retention
    common = {field.name: getattr(retention, field.name) for field in fields(Retention)}
    return MemoryLimits(**common)


def _redis_store(url: str, retention: Retention, lease_s: float) -> Store:
    try:
        from pool.store.redis import RedisStore
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "pool":
            raise
        remedy = 'this store needs another package: pip install "actorpool[redis]"'
        raise ConfigError(OPTION, without_password(url), remedy) from None
    return RedisStore(url, retention=retention, lease_s=lease_s)
