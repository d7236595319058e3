"""`python -m tests.storm --turns N --seed S`: a storm by hand."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import get_args

import click
import uvloop

from tests.storm.storm import Kind, Plan, storm


@click.command()
@click.option("--turns", default=Plan().turns, show_default=True, help="Turns to ask.")
@click.option("--sessions", default=Plan().sessions, show_default=True, help="Sessions at once.")
@click.option("--actors", default=Plan().actors, show_default=True, help="Actors a replica.")
@click.option("--think", default=Plan().think_s, help="Seconds between two turns, at most.")
@click.option("--seed", default=Plan().seed, show_default=True, help="What all is drawn from.")
@click.option("--store", type=click.Choice(get_args(Kind)), default=Plan().store)
@click.option("--keep", is_flag=True, help="Keep the logs of the replicas, and say where.")
def main(
    turns: int, sessions: int, actors: int, think: float, seed: int, store: Kind, keep: bool
) -> None:
    """Kill replicas under clients that come and go, and count what is lost: nothing."""
    replicas = 1 if store == "sqlite" else Plan().replicas
    plan = Plan(
        turns=turns,
        sessions=sessions,
        replicas=replicas,
        store=store,
        seed=seed,
        actors=actors,
        think_s=think,
    )
    with ExitStack() as stack:
        if keep:
            directory = mkdtemp(prefix="actorpool-storm-")
            click.echo(f"logs: {directory}")
        else:
            directory = stack.enter_context(TemporaryDirectory(prefix="actorpool-storm-"))
        try:
            click.echo(str(uvloop.run(storm(plan, Path(directory)))))
        except AssertionError as wrong:
            click.echo(f"seed {seed}: {wrong}", err=True)
            sys.exit(1)


main()
