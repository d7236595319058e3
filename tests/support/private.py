"""Pools that keep personal data and secrets from models, and agents that show what they saw."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from pool import AgentPool, TurnEnd, TurnInput
from pool.agent import Context
from pool.guard.privacy import privacy_of
from pool.guard.privacy_config import PrivacyConfig
from tests.support.agents import pooled

MODEL: Final = PrivacyConfig(default="model")
OFF: Final = PrivacyConfig()
PLACEHOLDER: Final = re.compile(r"\[[a-z]+-[0-9]{6}\]")


@asynccontextmanager
async def private(
    agents: Any, config: PrivacyConfig = MODEL, **options: Any
) -> AsyncIterator[AgentPool]:
    """An open pool with privacy; `options` as for `pooled`."""
    async with pooled(agents, privacy=privacy_of(config), **options) as pool:
        yield pool


def numbered(text: str) -> str:
    """The text with its placeholders numbered in the order in which they come: `<email 1>`."""
    found: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        kind = match[0][1:-8]
        return found.setdefault(match[0], f"<{kind} {len(found) + 1}>")

    return PLACEHOLDER.sub(name, text)


class Listening:
    """Remembers what was said to it, a line each, in the session's state; answers with all of it.

    `inputs` are the turns as it was given them.
    """

    def __init__(self, *, append: bool = False) -> None:
        self.inputs: list[TurnInput] = []
        self._append = append

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Add what is new to the state, and say it all."""
        self.inputs.append(turn)
        heard = [message.content for message in turn.unseen]
        new = "".join(f"{line}\n" for line in [*heard, turn.input]).encode()
        everything = (turn.state or b"") + new
        if self._append:
            return TurnEnd(output=everything.decode(), append=new)
        return TurnEnd(output=everything.decode(), state=everything)
