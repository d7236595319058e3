"""A demonstration without a model: fixed rules that talk, call tools, ask a human, remember."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from pool.agent import ALLOW, Decision, ToolCall
from pool.agents.arithmetic import work_out
from pool.agents.chat_agent import ChatAgent
from pool.agents.conversation import Entry, ModelSaid, ToolSaid, UserSaid
from pool.agents.model import Answer, AskedCall, Emit, Prompt
from pool.agents.toolbox import Toolbox
from pool.agents.tools import read_tools
from pool.events import TextDelta
from pool.turn import Principal

_WINDOW_TOKENS: Final = 20_000
_WORD: Final = re.compile(r"\s*\S+\s*$|\s*\S+")
_ARITHMETIC: Final = re.compile(r"[\d(-][\d\s().+*/-]*[-+*/][\d\s().+*/-]*[\d)]", re.ASCII)
_CLOCK_WORDS: Final = frozenset({"time", "clock", "date"})
_ANNOUNCE_WORDS: Final = frozenset({"announce", "approval", "approve"})
_MEMORY_WORDS: Final = frozenset({"remember", "before", "earlier"})
_HELP: Final = (
    "This is actorpool's demo agent: fixed rules, no model. Ask me what time it is, give me "
    "2 + 3 * 4 to work out, let me announce something (a human may have to approve it), or ask "
    "what you said before. For real answers start actorpool with your own agent (module:name) "
    "or with a model (openai:NAME)."
)


def demo(*, word_delay_s: float = 0.01, now: Callable[[], datetime] | None = None) -> ChatAgent:
    """A demo agent. Words come `word_delay_s` seconds apart; `now` is what its clock shows."""

    async def clock() -> str:
        """The date and time in UTC."""
        at = now() if now is not None else datetime.now(UTC)
        return f"{at:%Y-%m-%d %H:%M} UTC"

    tools = Toolbox(read_tools([clock, calculator, announce]), parallel=2)
    return ChatAgent(
        _Rules(word_delay_s), tools, window_tokens=_WINDOW_TOKENS, state_format="demo/1"
    )


def demo_gate(principal: Principal, call: ToolCall) -> Decision:
    """A gate for the demo: a human is asked about announcements, all else is allowed."""
    if call.name == "announce":
        return Decision("ask", "announcements are approved by a human", "write")
    return ALLOW


async def calculator(expression: str) -> str:
    """Work out arithmetic with + - * / and brackets.

    Args:
        expression: such as 2 + 3 * 4
    """
    return f"{expression} = {work_out(expression)}"


async def announce(text: str) -> str:
    """Pretend to announce something to everybody. Nothing is sent anywhere."""
    return f"announced (not really): {text}"


class _Rules:
    """Answers like a model would, by rules."""

    def __init__(self, word_delay_s: float) -> None:
        self._word_delay_s = word_delay_s

    async def open(self) -> None:
        """There is nothing to open."""

    async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
        """Answer a prompt, word by word."""
        calls = _calls(prompt.entries)
        text = "" if calls else _text(prompt.entries)
        words = _WORD.findall(text)
        spoken = words[: prompt.max_tokens]
        for word in spoken:
            await emit(TextDelta(word))
            await asyncio.sleep(self._word_delay_s)
        return Answer(
            text="".join(spoken),
            calls=calls,
            cut=len(spoken) < len(words),
            model="demo",
            output_tokens=len(spoken),
            cost_usd=0.0,
        )

    async def close(self) -> None:
        """There is nothing to close."""


def _calls(entries: Sequence[Entry]) -> tuple[AskedCall, ...]:
    """The tools that the last thing said asks for; none once they have answered."""
    said = entries[-1]
    if not isinstance(said, UserSaid):
        return ()
    words = _words(said.text)
    wanted: list[tuple[str, dict[str, str]]] = []
    if words & _CLOCK_WORDS:
        wanted.append(("clock", {}))
    if found := _ARITHMETIC.search(said.text):
        wanted.append(("calculator", {"expression": found[0].strip()}))
    if words & _ANNOUNCE_WORDS:
        wanted.append(("announce", {"text": said.text}))
    return tuple(AskedCall("", name, msgspec.json.encode(given).decode()) for name, given in wanted)


def _text(entries: Sequence[Entry]) -> str:
    said = entries[-1]
    if isinstance(said, ToolSaid):
        return _results(entries)
    if isinstance(said, UserSaid) and _words(said.text) & _MEMORY_WORDS:
        return _memory(entries)
    return f"You said: {said.text}\n\n{_HELP}" if isinstance(said, UserSaid) else _HELP


def _results(entries: Sequence[Entry]) -> str:
    """What came of the calls that were asked for last, in the order in which they were."""
    asked = next(entry for entry in reversed(entries) if isinstance(entry, ModelSaid))
    told = {entry.ref: entry.text for entry in entries if isinstance(entry, ToolSaid)}
    return "\n".join(f"{call.name}: {told[call.ref]}" for call in asked.calls)


def _memory(entries: Sequence[Entry]) -> str:
    said = [entry.text for entry in entries if isinstance(entry, UserSaid)]
    if len(said) < 2:
        return "You have said nothing before."
    return f"This is turn {len(said)} of our conversation. Before, you said: {said[-2]}"


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))
