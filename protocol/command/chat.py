"""Talking to a server from the terminal.

Prompts are read between turns and outside of the event loop, so that a line being typed needs no
thread: a turn runs to its end or to an approval, and goes on from the cursor of the approval.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from secrets import token_urlsafe
from typing import Final

import click

from protocol.client import Client, ClientError, ConnectionLost, ProblemError
from protocol.client.events import ApprovalRequested
from protocol.command.screen import Screen
from protocol.command.talk import Abandoned, Talk

# Long enough for a broken connection, and not too long to be told that there is no server.
_RETRY_FOR_S: Final = 3.0
_EXIT_ABANDONED: Final = 130


def chat(url: str, session: str | None, agent: str | None, key: str | None = None) -> int:
    """Talk until the user leaves; the exit code. `key`: what says who the user is."""
    screen = Screen(sys.stdout)
    client = Client(url, api_key=key, retry_for_s=_RETRY_FOR_S)
    talk = Talk(client, screen, session=session or f"c{token_urlsafe(16)}", agent=agent)
    with asyncio.Runner() as runner:
        try:
            runner.run(client.__aenter__())
            screen.note(runner.run(talk.greeting()))
            while (text := _line("> ")) is not None:
                if text.strip():
                    _turn(runner, talk, screen, text)
        except ConnectionLost:
            screen.note(f"no server answers at {url}: start one with `actorpool serve`")
            return 1
        except ClientError as error:
            screen.note(_said(error))
            return 1
        except (Abandoned, KeyboardInterrupt):
            return _EXIT_ABANDONED
        finally:
            # whoever pressed Ctrl-C once too often is leaving already
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            runner.run(client.__aexit__(None, None, None))
    return 0


def _turn(runner: asyncio.Runner, talk: Talk, screen: Screen, text: str) -> None:
    """One turn with all its approvals."""
    try:
        pending = runner.run(talk.ask(text))
        while pending is not None:
            allowed = _decision(screen, pending)
            if allowed is None:
                pending = runner.run(talk.cancel(pending))
            else:
                pending = runner.run(talk.decide(pending, allowed=allowed))
    except ProblemError as problem:
        # a refusal: the next line may be taken
        screen.note(_said(problem))


def _said(error: ClientError) -> str:
    """What went wrong, in words for a terminal."""
    if not isinstance(error, ProblemError):
        return str(error)
    if error.code == "unauthenticated":
        # the server speaks of headers, which nobody types here
        return "the server does not know who you are: give a key with --key, or in ACTORPOOL_KEY"
    return error.detail


def _decision(screen: Screen, pending: ApprovalRequested) -> bool | None:
    """Whether the call is allowed; None if the user would rather end the turn."""
    screen.note(f"approval ({pending.risk}): {screen.call(pending.name, pending.arguments)}")
    while (word := _line("allow? y/n ")) is not None:
        if word.strip().lower() in ("y", "yes"):
            return True
        if word.strip().lower() in ("n", "no"):
            return False
    return None


def _line(prompt: str) -> str | None:
    """The next line, None at Ctrl-C or at the end of the input. No prompt where nobody looks."""
    try:
        return input(prompt if sys.stdin.isatty() else "")
    except (EOFError, KeyboardInterrupt):
        click.echo()
        return None
