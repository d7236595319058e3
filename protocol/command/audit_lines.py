"""The lines of an audit log, wherever it is kept: in files, packed or not, or in a store."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from pool.errors import ConfigError

if TYPE_CHECKING:
    from pool.guard.audit_records import Head
    from pool.store.base import Store

# Told of each line, with its place.
Take = Callable[[str, bytes], object]

_LINE_MAX: Final = 1024 * 1024


def each_line(
    files: Sequence[str],
    url: str | None,
    config: str | None,
    take: Take,
    expect: Callable[[Head], object],
) -> None:
    """Give every line of the log to `take`, each chain in its order; the heads that are noted apart
    from it to `expect`, before.
    """
    if not files:
        asyncio.run(_lines_of_store(url, config, take, expect))
        return
    begins = {path: _first_record(path) for path in map(Path, files)}
    if url is not None:
        chains = {chain for chain, _ in begins.values()} - {""}
        asyncio.run(_kept_heads(url, config, chains, expect))
    for path in sorted(begins, key=begins.__getitem__):
        for place, line in _lines_of_file(path):
            take(place, line)


def _lines_of_file(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines of a file, each with its place; `ConfigError` if it cannot be read to its end."""
    number = 0
    try:
        with _opened(path) as file:
            while line := file.readline(_LINE_MAX):
                number += 1
                yield f"line {number} of {path}", line.rstrip(b"\n")
    except OSError as error:
        raise ConfigError("FILE", str(path), error.strerror or "is not readable") from None
    except (EOFError, zlib.error):
        remedy = f"is damaged, or was cut off, after line {number}: unpack what is left of it"
        raise ConfigError("FILE", str(path), remedy) from None


def _first_record(path: Path) -> tuple[str, int]:
    from pool.guard.audit_records import head_of

    heads = (head_of(line) for _, line in _lines_of_file(path))
    return next(((head.chain, head.number) for head in heads if head is not None), ("", 0))


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


async def _kept_heads(
    url: str, config: str | None, chains: Iterable[str], expect: Callable[[Head], object]
) -> None:
    from pool.guard.audit_heads import kept_head

    async with _the_store(url, config) as store:
        for chain in chains:
            head = await kept_head(store, chain)
            if head is not None:
                expect(head)


async def _lines_of_store(
    url: str | None, config: str | None, take: Take, expect: Callable[[Head], object]
) -> None:
    from pool.guard.audit_store import heads, lines_of

    async with _the_store(url, config) as store:
        for head in await heads(store):
            expect(head)
            async for place, line in lines_of(store, head.chain):
                take(place, line)


def _the_store(url: str | None, config: str | None) -> AbstractAsyncContextManager[Store]:
    from protocol.command.places import existing
    from protocol.command.sources import store_settings

    settings = store_settings(
        url, os.environ, named_by="--store", file=config, directory=Path.cwd()
    )
    return existing(settings, os.environ)
