"""The command `actorpool`: serve agents, talk to a server, check a configuration.

Everything is imported when it is used: the command that talks needs no server, and starts the
sooner.
"""

from __future__ import annotations


def main() -> None:
    """Run the command with this process's arguments; does not return."""
    from protocol.command.cli import actorpool

    actorpool(prog_name="actorpool")
