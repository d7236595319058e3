"""Follows what others change in a store: a look every second, also while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from pool.errors import StoreUnavailable

EVERY_S: Final = 1.0

_log = structlog.get_logger("pool.looking")


class Looking:
    """Calls `look` every second. `away`: what is not known while the store does not answer."""

    def __init__(self, look: Callable[[], Awaitable[None]], *, name: str, away: str) -> None:
        self._look = look
        self._name = name
        self._away = away
        self._reachable = True
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Looking {self._name} [{'idle' if self._task is None else 'running'}]>"

    async def start(self) -> None:
        """Look at once, then every second. A store that is away is no reason not to start."""
        await self._try()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Look no more. May be called again, or without a start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._try()

    async def _try(self) -> None:
        try:
            await self._look()
            self._reachable = True
        except StoreUnavailable as error:
            if self._reachable:
                # once for an outage; what was known stays so
                self._reachable = False
                _log.warning(self._away, error=error.code)
        except Exception:
            remedy = "it is done again: report this, please"
            _log.exception("looking failed", what=self._name, remedy=remedy)
