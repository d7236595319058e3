"""What the parts of a SQLite store have in common: how they ask its threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from pool.errors import StoreUnavailable
from pool.store.sqlite_batch import Batch
from pool.store.sqlite_owners import Owners
from pool.store.sqlite_rows import Reading
from pool.store.sqlite_worker import Worker

P = ParamSpec("P")
T = TypeVar("T")


class SqlitePart:
    """One part of a SQLite store. `clock` gives seconds since the epoch."""

    def __init__(self, owners: Owners, clock: Callable[[], float]) -> None:
        self.lease_s = owners.lease_s
        self._owners = owners
        self._clock = clock
        self._writer: Worker | None = None
        self._reader: Worker | None = None

    def _write(
        self,
        names: tuple[str, ...],
        run: Callable[Concatenate[Batch, P], T],
        *arguments: P.args,
        **_: P.kwargs,
    ) -> asyncio.Future[T]:
        """Have something done in the next transaction; it writes to the sessions of these names."""
        if self._writer is None:
            raise _closed()
        return self._writer.ask(names, run, *arguments)

    def _read(
        self, run: Callable[Concatenate[Reading, P], T], *arguments: P.args, **_: P.kwargs
    ) -> asyncio.Future[T]:
        """Have something read."""
        if self._reader is None:
            raise _closed()
        return self._reader.ask(None, run, *arguments)


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the store is not open")
