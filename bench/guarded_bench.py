"""An HTTP turn as it costs where it matters who asks: API key, limits, budgets, audit and gate on.

What is on stands in `bench/guarded.py`. Held against the same bare server as the turns without all
that; 64 connections, memory and Redis. And what a turn then asks of Redis, counted: all scripts on
the way to the server, what goes by the clock included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import servers
from bench.http_bench import CONNECTIONS, SECONDS, WARM_UP_S
from bench.http_load import Load
from bench.process import Server, python, report
from bench.result import Row, Sides, Target, by_turns
from bench.stores import Kind, place, redis_at, redis_server
from bench.tap import Tap

TARGETS: Final[dict[Kind, float]] = {"memory": 0.6, "Redis": 0.3}


def run(rounds: int) -> list[Row]:
    """Turns a second, the slowest in a hundred, and scripts a turn."""
    sides: dict[str, Callable[[], Load]] = {kind: partial(_guarded, kind) for kind in TARGETS}
    sides["bare"] = _bare
    found = by_turns(rounds, sides)
    rows = []
    for kind, least in TARGETS.items():
        both = Sides(found[kind], found["bare"])
        what = f"guarded HTTP turn, echo, {kind}"
        target = Target(least, "at least")
        rows.append(both.row(what, "turns/s", lambda load: load.per_second, target))
        rows.append(both.row(f"{what}, p99", "ms", lambda load: load.p99_ms))
    return [*rows, _scripts()]


def _guarded(kind: Kind) -> Load:
    with place(kind) as at:
        return _load_at(at)


def _load_at(at: str) -> Load:
    with TemporaryDirectory(prefix="actorpool-bench-") as home:
        key = Path(home, "key")
        with Server(python("bench.guarded", at, key)) as server:
            return _load(server, key.read_text())


def _bare() -> Load:
    with servers.bare() as server:
        return _load(server)


def _load(server: Server, *key: str) -> Load:
    asked = (server.port, CONNECTIONS, WARM_UP_S, SECONDS, "application/json", *key)
    return report("bench.http_load", *asked, kind=Load)


def _scripts() -> Row:
    with redis_server() as server, Tap(server.port) as tap:
        load = _load_at(redis_at(tap.port))
        turns, scripts = load.all_turns, tap.counts.all_scripts
    return Row(what="Redis: scripts a guarded turn", unit="scripts", pool=scripts / turns)
