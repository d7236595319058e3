"""The command line: names, help and order of precedence. What it does is elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from protocol.command.audit import audit
from protocol.command.cli_cost import budgets, usage
from protocol.command.cli_guard import agents, keys
from protocol.command.cli_mcp import mcp
from protocol.command.cli_store import dead_letters, migrate, sessions, turns
from protocol.command.mistakes import mistakes

F = TypeVar("F", bound=Callable[..., Any])

# Checked with all other options, whatever their source, rather than by click: one kind of mistake.
_OPTIONS: Final[tuple[tuple[str, tuple[str, ...], str, str], ...]] = (
    ("--host", ("server", "host"), "ADDRESS", "Where to listen [127.0.0.1]."),
    ("--port", ("server", "port"), "NUMBER", "0 takes a free one [8080]."),
    ("--model", ("agents", "chat", "model"), "openai:NAME", "Serve a model as the agent `chat`."),
    ("--instructions", ("agents", "chat", "instructions"), "TEXT", "What to tell the model."),
    ("--min", ("agents", "*", "min"), "NUMBER", "Actors that each agent has at least [1]."),
    ("--max", ("agents", "*", "max"), "NUMBER", "Actors that each agent has at most [16]."),
    ("--auth", ("auth", "mode"), "open|keys|jwt|both", "How callers say who they are [open]."),
    ("--store", ("store", "url"), "URL", "Where sessions live [a file of this user]."),
    ("--log-format", ("log", "format"), "auto|json|console", "How to log [auto]."),
    ("--log-level", ("log", "level"), "debug|info|warning|error", "From what on to log [info]."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="actorpool", message="%(prog)s %(version)s")
def actorpool() -> None:
    """Put agents behind HTTP, SSE and WebSocket, and talk to them."""


for _command in (sessions, turns, dead_letters, migrate, keys, agents, budgets, usage, audit, mcp):
    actorpool.add_command(_command)


def _configured(command: F) -> F:
    """Give a command the options that make settings, handed on as `targets` and `flags`."""
    for flag, _, metavar, help_ in reversed(_OPTIONS):
        command = click.option(flag, metavar=metavar, help=help_)(command)
    for decorate in (
        click.option(
            "--insecure", is_flag=True, default=None, help="Listen beyond this machine, unasked."
        ),
        click.option("--config", metavar="FILE", help="TOML [actorpool.toml, if there is one]."),
        click.argument("targets", nargs=-1, metavar="[[NAME=]MODULE:ATTR]..."),
    ):
        command = decorate(command)
    return command


@actorpool.command()
@_configured
def serve(targets: tuple[str, ...], **flags: Any) -> None:
    """Serve agents: your own (MODULE:ATTR), a model's (--model), or one for a first try.

    An option comes from the command line, else from ACTORPOOL_<SECTION>_<OPTION>, else from the
    file. The first agent named is the default one.
    """
    with mistakes():
        settings = _settings(targets, flags)
        from protocol.command.serve import serve as run

        code = run(settings, os.environ)
    sys.exit(code)


@actorpool.command()
@_configured
def check(targets: tuple[str, ...], **flags: Any) -> None:
    """Say what `serve` would run, or what is wrong with it. Takes the same options."""
    with mistakes():
        settings = _settings(targets, flags)
        from protocol.command.check import check as run

        click.echo("\n".join(run(settings, os.environ)))


@actorpool.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The server.")
@click.option("--session", metavar="ID", help="Go on with this session [a new one].")
@click.option("--agent", metavar="NAME", help="Who is to answer [the server's default].")
@click.option("--key", metavar="KEY", envvar="ACTORPOOL_KEY", help="Who you are [$ACTORPOOL_KEY].")
def chat(url: str, session: str | None, agent: str | None, key: str | None) -> None:
    """Talk to a server from the terminal.

    Ctrl-C cancels the answer that is being given; at the prompt it leaves, as does Ctrl-D.
    """
    from protocol.command.chat import chat as run

    with mistakes():
        code = run(url, session, agent, key)
    sys.exit(code)


def _settings(targets: tuple[str, ...], flags: dict[str, Any]) -> Any:
    from protocol.command.sources import gather
    from protocol.settings import Option

    # what `serve MODULE:ATTR` names is looked for where it is said, as with `python -m`
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    given = [
        Option(path, flags[_parameter(flag)], flag, from_text=True)
        for flag, path, _, _ in _OPTIONS
        if flags[_parameter(flag)] is not None
    ]
    if flags["insecure"]:
        given.append(Option(("server", "insecure"), True, "--insecure"))
    return gather(targets, given, os.environ, file=flags["config"], directory=Path.cwd())


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")
