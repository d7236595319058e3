"""The two sides of most measurements, each a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.process import Server, python
from bench.stores import Kind, Place, place


def pool(
    *options: object,
    at: Place = "memory",
    lease_s: float | None = None,
    env: dict[str, str] | None = None,
) -> Server:
    """The command `actorpool serve`, as users start it, on a store: metrics and log are on."""
    command = ["-c", "from protocol.command import main; main()", "serve", "--store", at]
    if lease_s is not None:
        env = {**(env or {}), "ACTORPOOL_STORE_LEASE_S": f"{lease_s:g}"}
    return Server([*command, *map(str, options), "--port"], env=env)


@contextmanager
def pool_on(kind: Kind, *options: object) -> Iterator[Server]:
    """The command on a fresh store of a kind, listening."""
    with place(kind) as at, pool(*options, at=at) as server:
        yield server


def bare(*, env: dict[str, str] | None = None) -> Server:
    """The bare server of bench/bare.py."""
    return Server(python("bench.bare"), env=env)
