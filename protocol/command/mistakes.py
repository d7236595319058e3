"""How the command says that something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from pool.errors import ConfigError, PoolError


@contextmanager
def mistakes() -> Iterator[None]:
    """Say what is wrong in one line, and end with 1."""
    try:
        yield
    except (ConfigError, PoolError) as mistake:
        click.echo(f"actorpool: {mistake}", err=True)
        sys.exit(1)


@contextmanager
def warnings() -> Iterator[None]:
    """Send what a store or the audit log warns of to standard error, away from the output."""
    from pool.telemetry.logs import configure

    _, lines = configure(level="warning")
    try:
        yield
    finally:
        lines.flush()
