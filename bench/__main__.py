"""The runner: `python -m bench [names] [--rounds N] [--write]`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final

import click

from bench.machine import description, raise_file_limit
from bench.result import Row, table

NAMES: Final = (
    *("http", "ask", "stream", "relay", "connections", "sessions", "start"),
    *("guarded", "trips", "recovery", "failover"),
)
RESULTS: Final = Path(__file__).with_name("RESULTS.md")

HEAD: Final = """\
# Results

Written by `{command}` on {date} in {minutes:.1f} minutes.
{machine}.

Medians of {rounds} alternating rounds; server on one core, load on another. `ratio` is pool to
bare, both measured in this run. What a line means stands at the top of `bench/<name>_bench.py`; the
targets are those of the design's cost budget.

"""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--rounds", default=5, show_default=True, help="Rounds of each side.")
@click.option("--write", is_flag=True, help="Also write bench/RESULTS.md.")
def main(names: tuple[str, ...], rounds: int, write: bool) -> None:
    """Measure what the pool costs against the bare limit; without names, everything."""
    raise_file_limit()
    start = time.monotonic()
    print(description(), flush=True)
    rows: list[Row] = []
    for name in names or NAMES:
        run: Callable[[int], list[Row]] = import_module(f"bench.{name}_bench").run
        print(f"{name} ...", flush=True)
        rows += run(rounds)
    text = table(rows)
    print(text)
    if write:
        head = HEAD.format(
            command=" ".join(("python -m bench", *names, f"--rounds {rounds} --write")),
            date=datetime.now(UTC).date(),
            minutes=(time.monotonic() - start) / 60,
            machine=description(),
            rounds=rounds,
        )
        RESULTS.write_text(head + text + "\n")


if __name__ == "__main__":
    main()
