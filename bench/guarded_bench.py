"""An HTTP turn as it costs where it matters who asks, held against the same bare server.

What is on stands in `bench/limited.py` (API key, three rates, a quota of turns, metrics, log: what
the targets are for) and `bench/guarded.py` (budgets, audit log and gate as well); 64 connections.
And what a turn then asks of Redis, counted: all scripts on the way to the server, what goes by the
clock included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal, NamedTuple

from bench import servers
from bench.http_bench import CONNECTIONS, SECONDS, TARGETS, WARM_UP_S
from bench.http_load import Load
from bench.process import Server, python, report
from bench.result import Row, Sides, Target, by_turns
from bench.stores import KINDS, Kind, place, redis_at, redis_server
from bench.tap import Tap


class Case(NamedTuple):
    """A server that asks who calls, on a store."""

    how: Literal["limited", "guarded"]
    kind: Kind

    def __str__(self) -> str:
        return f"{self.how} HTTP turn, echo, {self.kind}"

    @property
    def target(self) -> Target | None:
        """Without budgets, audit log and gate it is that of a turn that nobody is asked about."""
        return Target(TARGETS[self.kind], "at least") if self.how == "limited" else None


CASES: Final = (
    *(Case("limited", kind) for kind in KINDS),
    Case("guarded", "memory"),
    Case("guarded", "Redis"),
)


def run(rounds: int) -> list[Row]:
    """Turns a second, the slowest in a hundred, and scripts a turn."""
    sides: dict[str, Callable[[], Load]] = {str(case): partial(_loaded, case) for case in CASES}
    sides["bare"] = _bare
    found = by_turns(rounds, sides)
    rows = []
    for case in CASES:
        both = Sides(found[str(case)], found["bare"])
        rows.append(both.row(f"{case}", "turns/s", lambda load: load.per_second, case.target))
        rows.append(both.row(f"{case}, p99", "ms", lambda load: load.p99_ms))
    return [*rows, *(_scripts(case) for case in CASES if case.kind == "Redis")]


def _loaded(case: Case) -> Load:
    with place(case.kind) as at:
        return _load_at(case, at)


def _load_at(case: Case, at: str) -> Load:
    with TemporaryDirectory(prefix="actorpool-bench-") as home:
        key = Path(home, "key")
        with Server(python(f"bench.{case.how}", at, key)) as server:
            return _load(server, key.read_text())


def _bare() -> Load:
    with servers.bare() as server:
        return _load(server)


def _load(server: Server, *key: str) -> Load:
    asked = (server.port, CONNECTIONS, WARM_UP_S, SECONDS, "application/json", *key)
    return report("bench.http_load", *asked, kind=Load)


def _scripts(case: Case) -> Row:
    with redis_server() as server, Tap(server.port) as tap:
        load = _load_at(case, redis_at(tap.port))
        turns, scripts = load.all_turns, tap.counts.all_scripts
    return Row(what=f"Redis: scripts a {case.how} turn", unit="scripts", pool=scripts / turns)
