"""Where the command keeps sessions, and how that is said."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pool.errors import ConfigError
from pool.store.base import Store
from pool.store.urls import MEMORY, OPTION, scheme_of, sqlite_path, store_of, without_password
from protocol.command.screen import visible
from protocol.settings import StoreSettings

_FILE: Final = Path("actorpool", "actorpool.db")


def url_of(settings: StoreSettings, environ: Mapping[str, str]) -> str:
    """The store's URL: the one that was given, else a file in the user's state directory."""
    if settings.url is not None:
        return settings.url
    return "sqlite://" + quote(str(state_directory(environ) / _FILE))


def store(settings: StoreSettings, environ: Mapping[str, str]) -> Store:
    """The store that a server opens."""
    url = url_of(settings, environ)
    return store_of(
        url,
        retention=settings.limits,
        lease_s=settings.lease_s,
        synchronous=settings.synchronous,
    )


@asynccontextmanager
async def lasting(settings: StoreSettings, environ: Mapping[str, str]) -> AsyncIterator[Store]:
    """The store that a server would open, open; one that is in memory only is refused."""
    _file(url_of(settings, environ))
    async with _opened(store(settings, environ)) as opened:
        yield opened


@asynccontextmanager
async def existing(
    settings: StoreSettings, environ: Mapping[str, str], *, exclusive: bool = False
) -> AsyncIterator[Store]:
    """The store of a server, open, for an operator; it must be there.

    Not `exclusive`, a server may go on using a SQLite file meanwhile.
    """
    url = url_of(settings, environ)
    path = _file(url)
    if path is not None and not path.is_file():
        remedy = "there is no such file: name the store of the server, --store URL"
        raise ConfigError(OPTION, str(path), remedy)
    found = store_of(url, retention=settings.limits, lease_s=settings.lease_s, exclusive=exclusive)
    async with _opened(found) as opened:
        yield opened


def said(settings: StoreSettings, environ: Mapping[str, str]) -> str:
    """Where sessions live, for people; without a password."""
    url = url_of(settings, environ)
    scheme = scheme_of(url)
    if scheme == MEMORY:
        return "memory, and end with this process"
    if scheme == "sqlite":
        path = sqlite_path(url)
        return visible(str(path)) if path else "SQLite's memory, and end with this process"
    return visible(without_password(url))


@asynccontextmanager
async def _opened(store: Store) -> AsyncIterator[Store]:
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def _file(url: str) -> Path | None:
    """The file of a store that has one; `ConfigError` if it is in memory only."""
    scheme = scheme_of(url)
    path = sqlite_path(url) if scheme == "sqlite" else None
    if path is None and scheme in (MEMORY, "sqlite"):
        remedy = "is of one process alone: name the store of the server"
        raise ConfigError(OPTION, url, remedy)
    return path


def state_directory(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where this user's programs keep what they know; `ConfigError` if that is nowhere."""
    if environ.get("XDG_STATE_HOME"):
        return Path(environ["XDG_STATE_HOME"]).absolute()
    if not environ.get("HOME"):
        remedy = (
            "there is no HOME to keep sessions in: say where, --store sqlite:///path/to/file.db"
        )
        raise ConfigError(OPTION, None, remedy)
    home = Path(environ["HOME"]).absolute()
    if platform == "darwin":
        return home / "Library" / "Application Support"
    return home / ".local" / "state"
