"""How commands act on the store of a server, whether one runs or will."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from protocol.command.mistakes import mistakes, warnings

if TYPE_CHECKING:
    from pool.store.base import Store
    from protocol.settings import Settings

Act = Callable[..., Coroutine[Any, Any, int]]
# Opens a store; which module has that is only asked when a command is given.
Opening = Callable[..., "AbstractAsyncContextManager[Store]"]


def on_store(act: Act) -> Callable[..., None]:
    """Make a command of what is done with an open store and all settings; its options are handed
    on, and the process ends with the exit code that this returns.
    """

    def opening() -> Opening:
        from protocol.command.keys import open_store

        return open_store

    return _command(act, opening)


def on_existing(act: Act) -> Callable[..., None]:
    """The same, with a store that must be there."""

    def opening() -> Opening:
        from protocol.command.places import existing

        return existing

    return _command(act, opening)


def _command(act: Act, opening: Callable[[], Opening]) -> Callable[..., None]:
    @click.option("--store", "url", metavar="URL", help="The server's store [as `serve` has it].")
    @click.option("--config", metavar="FILE", help="TOML [actorpool.toml, if there is one].")
    @wraps(act)
    def command(*, url: str | None, config: str | None, **options: Any) -> None:
        from protocol.command.sources import server_settings

        async def run() -> int:
            async with opening()(settings.store, os.environ) as store:
                return await act(store, settings, **options)

        with mistakes(), warnings():
            settings = server_settings(
                url, os.environ, named_by="--store", file=config, directory=Path.cwd()
            )
            code = asyncio.run(run())
        sys.exit(code)

    return command


def noted(act: Act) -> Callable[..., None]:
    """Make a command of what an operator has to answer for: it is given the audit log instead of
    the settings.
    """
    return on_store(noting_it(act))


def urgent(act: Act) -> Callable[..., None]:
    """The same, for what cannot wait: it is done even if that cannot be noted."""
    return on_store(noting_it(act, urgent=True))


def noting_it(act: Act, *, urgent: bool = False) -> Act:
    """What is done with an open store and all settings, given the audit log instead of those."""

    @wraps(act)
    async def noting(store: Store, settings: Settings, **options: Any) -> int:
        from protocol.command import audited

        async with audited.noting(settings.audit, store, urgent=urgent) as notes:
            return await act(store, notes, **options)

    return noting


def listing(act: Act) -> Callable[..., None]:
    """Make a command of what only looks at the store."""
    return on_store(without_settings(act))


def without_settings(act: Act) -> Act:
    """What is done with an open store alone."""

    @wraps(act)
    async def looking(store: Store, _: Settings, **options: Any) -> int:
        return await act(store, **options)

    return looking


in_json = click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")
