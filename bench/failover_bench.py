"""One of two replicas on one Redis dies by SIGKILL in the middle of 100 turns.

Its agent never answered; that of the other replica answers at once. How long after the death each
turn is started by the other, with the lease of ten seconds (the default) and of two.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from bench import servers
from bench.process import Server
from bench.result import Row, Target
from bench.stores import place
from bench.turns import Caller

TURNS: Final = 100
# seconds that a lease lasts, and how many deaths at most: each takes longer than the lease
LEASES: Final = {2.0: 3, 10.0: 1}
# how often a replica looks for what others have left behind
LOOK_S: Final = 1.0
# how long after the lease's end a turn may still have to wait
LATE_S: Final = 1.0


def run(rounds: int) -> list[Row]:
    """Seconds, on the wall's clock."""
    return [row for lease_s, most in LEASES.items() for row in _rows(lease_s, min(rounds, most))]


def _rows(lease_s: float, rounds: int) -> list[Row]:
    """The turns of all rounds together: each death at another moment between two looks."""
    waits = [wait for n in range(rounds) for wait in _failover(lease_s, LOOK_S * n / rounds)]
    what = f"failover on Redis, lease {lease_s:g} s: a turn starts again"
    target = Target(lease_s + LATE_S, "at most", of="value")
    return [
        Row(what=f"{what}, p50", unit="s", pool=median(waits)),
        Row(what=f"{what}, last", unit="s", pool=max(waits), target=target),
    ]


def _failover(lease_s: float, death_after_s: float) -> list[float]:
    with (
        place("Redis") as at,
        servers.pool(*_agent("stuck"), at=at, lease_s=lease_s) as dying,
        servers.pool(*_agent("echo"), at=at, lease_s=lease_s) as other,
    ):
        turns = _unfinished(dying)
        time.sleep(death_after_s)
        died_at = time.time()
        dying.kill()
        with Caller(other.port) as caller:
            return [caller.ended(turn_id).started_at - died_at for turn_id in turns]


def _agent(name: str) -> tuple[object, ...]:
    return f"default=bench.agents:{name}", "--max", TURNS


def _unfinished(server: Server) -> list[str]:
    """The ids of turns that the server runs."""
    with Caller(server.port) as caller:
        return [caller.submit(f"unfinished-{number}") for number in range(TURNS)]
