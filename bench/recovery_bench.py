"""A server on SQLite dies by SIGKILL in the middle of 1,000 turns, and is started again.

Its agent never answered; the one that is started in its place answers at once. Bare is the start of
the same server on a file without unfinished turns.
"""

from __future__ import annotations

import time
from typing import Final

from msgspec import Struct

from bench import servers
from bench.result import Row, Target, alternate
from bench.stores import Place, sqlite_file
from bench.turns import Caller

TURNS: Final = 1_000
ROUNDS_MAX: Final = 2
# a start may take as long as any other, and what recovery adds
START_S: Final = 0.6


class Recovery(Struct, frozen=True):
    """Seconds from the start: to an answer in a new session, and to the last unfinished turn."""

    first_answer_s: float
    all_ended_s: float


def run(rounds: int) -> list[Row]:
    """Seconds, on the wall's clock."""
    sides = alternate(
        min(rounds, ROUNDS_MAX), pool=lambda: _recovery(TURNS), bare=lambda: _recovery(0)
    )
    what = f"restart on SQLite, {TURNS:,} unfinished turns"
    target = Target(START_S, "at most", of="value")
    return [
        sides.row(f"{what}: first answer", "s", lambda found: found.first_answer_s, target),
        sides.row(f"{what}: all ended", "s", lambda found: found.all_ended_s),
    ]


def _recovery(turns: int) -> Recovery:
    with sqlite_file() as file:
        return _restarted(file, _unfinished(file, turns))


def _unfinished(file: Place, turns: int) -> list[str]:
    """The ids of turns that were running when their server died."""
    agent = ("default=bench.agents:stuck", "--max", max(16, turns))
    with servers.pool(*agent, at=file) as server, Caller(server.port) as caller:
        return [caller.submit(f"unfinished-{number}") for number in range(turns)]


def _restarted(file: Place, unfinished: list[str]) -> Recovery:
    start = time.perf_counter()
    with (
        servers.pool("default=bench.agents:echo", at=file) as server,
        Caller(server.port) as caller,
    ):
        caller.ask("new")
        first_answer_s = time.perf_counter() - start
        for turn_id in unfinished:
            turn = caller.ended(turn_id)
            if turn.state != "completed":
                raise RuntimeError(f"turn {turn_id} was not recovered: it is {turn.state}")
        return Recovery(first_answer_s, time.perf_counter() - start)
