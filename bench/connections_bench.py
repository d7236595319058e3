"""The memory of 10,000 idle WebSocket connections, each with a session that has had its turn."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from bench import servers
from bench.machine import pinned
from bench.process import ROOT, Server, python
from bench.result import Row, Target

CONNECTIONS: Final = 10_000
# what is made once, whatever comes, is not what a connection costs
FIRST: Final = 100


def run(_: int) -> list[Row]:
    """KiB for a connection. One round: memory hardly varies."""
    memory = {
        "pool": _kib_per_connection(servers.pool("bench.agents:echo")),
        "bare": _kib_per_connection(servers.bare()),
    }
    target = Target(20, "at most", of="value")
    return [Row(what="idle WebSocket and session", unit="KiB", **memory, target=target)]


def _kib_per_connection(server: Server) -> float:
    with server:
        _connected(server, FIRST).communicate()
        before = server.memory_bytes()
        clients = _connected(server, CONNECTIONS)
        grown = server.memory_at_rest_bytes() - before
        clients.communicate()
        return grown / CONNECTIONS / 1024


def _connected(server: Server, connections: int) -> subprocess.Popen[bytes]:
    """Clients that have had their answers and now say nothing, until they are communicated with."""
    clients = subprocess.Popen(
        [
            *pinned(1),
            *(sys.executable, *python("bench.websocket_load", "idle", server.port, connections)),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    if clients.stdout is None or not clients.stdout.readline():
        raise RuntimeError(f"{connections} connections could not be made")
    return clients
