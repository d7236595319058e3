"""Answers streamed over WebSockets: 100 sessions, 200 deltas each, from an agent that never pauses.

The bare server joins what comes within 5 ms into one frame, as the pool does.
"""

from __future__ import annotations

from typing import Final

from bench import servers
from bench.agents import DELTAS
from bench.process import Server, report
from bench.result import Row, alternate
from bench.websocket_load import Load

SESSIONS: Final = 100
WARM_UP_S: Final = 0.5
SECONDS: Final = 2.0


def run(rounds: int) -> list[Row]:
    """Deltas a second."""
    sides = alternate(
        rounds,
        pool=lambda: _load(servers.pool("bench.agents:stream", "--max", SESSIONS)),
        bare=lambda: _load(servers.bare()),
    )
    what = f"WebSocket stream, {SESSIONS} sessions"
    return [sides.row(what, "deltas/s", lambda load: load.per_second * DELTAS)]


def _load(server: Server) -> Load:
    with server:
        return report(
            "bench.websocket_load",
            *("stream", server.port, SESSIONS, WARM_UP_S, SECONDS),
            kind=Load,
        )
