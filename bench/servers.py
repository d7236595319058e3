"""The two sides of most measurements, each a process of its own."""

from __future__ import annotations

from bench.process import Server, python


def pool(*options: object, env: dict[str, str] | None = None) -> Server:
    """The command `actorpool serve`, as users start it: metrics and log are on."""
    command = ["-c", "from protocol.command import main; main()", "serve"]
    return Server([*command, *map(str, options), "--port"], env=env)


def bare(*, env: dict[str, str] | None = None) -> Server:
    """The bare server of bench/bare.py."""
    return Server(python("bench.bare"), env=env)
