"""From the start of the command to its first answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench import servers
from bench.process import Server
from bench.result import Row, Target, alternate
from bench.turns import Caller


def run(rounds: int) -> list[Row]:
    """Seconds, on the wall's clock."""
    sides = alternate(
        rounds,
        pool=lambda: _first_answer(lambda: servers.pool("bench.agents:echo")),
        bare=lambda: _first_answer(servers.bare),
    )
    return [sides.row("start to first answer", "s", float, Target(0.6, "at most", of="value"))]


def _first_answer(server: Callable[[], Server]) -> float:
    start = time.perf_counter()
    with server() as started, Caller(started.port) as caller:
        caller.ask("s")
        return time.perf_counter() - start
