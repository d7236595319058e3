"""What a turn asks of Redis if one replica accepts and runs it, counted on the way to the server.

A script is a round trip. Writes are the pieces in which commands reach the server: scripts of one
tick of the loop share one. A turn starts at once if there are as many actors as turns; with fewer
it waits in the queue, and its start is stored by itself. The stateful agent's state is loaded anew
for each turn. A streamed turn says 200 deltas over 5 s, which are stored each 250 ms, and its inbox
is looked at each third of the lease.
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from bench.process import report
from bench.result import Row, Target
from bench.stores import redis_at, redis_server
from bench.tap import Counts, Tap
from bench.trips import STREAM_S

FLUSH_S: Final = 0.25
LOOK_S: Final = 10.0 / 3
TURN_MAX: Final = 2


class Case(NamedTuple):
    """Turns of a kind: how many of them at once, by how many actors, how many in all; and how many
    scripts each may take.
    """

    kind: str
    at_once: int
    actors: int
    turns: int
    scripts_max: int = TURN_MAX

    def __str__(self) -> str:
        return f"{self.kind}, {self.at_once} at a time, {self.actors} actors"


CASES: Final = (
    Case("echo", 1, 16, 300),
    Case("echo", 100, 100, 3_000),
    Case("echo", 100, 16, 3_000),
    Case("stateful", 1, 16, 300),
    Case("stateful", 100, 100, 4_000),
    Case("streamed", 20, 20, 20, TURN_MAX + ceil(STREAM_S / FLUSH_S) + ceil(STREAM_S / LOOK_S)),
)


def run(_: int) -> list[Row]:
    """Scripts and writes a turn. One round: they are counted, not timed."""
    return [row for case in CASES for row in _rows(case)]


def _rows(case: Case) -> list[Row]:
    counts, turns = _counted(case)
    return [
        Row(
            what=f"Redis: scripts a turn, {case}",
            unit="scripts",
            pool=counts.scripts / turns,
            target=Target(case.scripts_max, "at most", of="value"),
        ),
        Row(what=f"Redis: writes a turn, {case}", unit="writes", pool=counts.writes / turns),
    ]


def _counted(case: Case) -> tuple[Counts, int]:
    with redis_server() as server, Tap(server.port) as tap:
        asked = (redis_at(tap.port), case.kind, case.at_once, case.actors, case.turns)
        turns = report("bench.trips", *asked, kind=int, role=0)
        return tap.counts, turns
