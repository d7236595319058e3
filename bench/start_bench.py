"""From the start of the command to its first answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPConnection

from bench import servers
from bench.http_load import BODY
from bench.process import Server
from bench.result import Row, Target, alternate


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
    with server() as started:
        connection = HTTPConnection("127.0.0.1", started.port, timeout=10)
        connection.request(
            "POST", "/v1/sessions/s/turns", BODY, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        response.read()
        taken = time.perf_counter() - start
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"the first turn was answered with {response.status}")
    return taken
