"""100,000 sessions at rest after one short turn each: their memory, and what they cost others."""

from __future__ import annotations

from typing import Final

from bench.process import report
from bench.result import Row, Target
from bench.sessions import Rest

SESSIONS: Final = 100_000


def run(_: int) -> list[Row]:
    """KiB for a session, and asks among many sessions against asks among few. One round."""
    found = report("bench.sessions", SESSIONS, kind=Rest, role=0)
    return [
        Row(
            what=f"idle session, of {SESSIONS:,}",
            unit="KiB",
            pool=found.bytes_each / 1024,
            target=Target(0.5, "at most", of="value"),
        ),
        Row(
            what=f"tasks of {SESSIONS:,} idle sessions",
            unit="tasks",
            pool=found.tasks,
            target=Target(0, "at most", of="value"),
        ),
        Row(
            what=f"ask beside {SESSIONS:,} sessions (bare: few)",
            unit="asks/s",
            pool=found.asks_last,
            bare=found.asks_first,
            target=Target(0.9, "at least"),
        ),
    ]
