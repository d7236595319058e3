"""A model that answers from a script."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pool.agents.conversation import Entry
from pool.agents.model import Answer, AskedCall, Emit, Prompt
from pool.events import TextDelta


class ScriptedModel:
    """Implements `pool.agents.model.Model`: gives the answers in order and keeps the prompts."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.prompts: list[list[Entry]] = []
        self.allowed: list[int | None] = []
        self.opened = 0
        self.closed = 0
        self._answers = iter(answers)

    async def open(self) -> None:
        """Count it."""
        self.opened += 1

    async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
        """The next answer of the script; its text is emitted in one piece."""
        self.prompts.append(list(prompt.entries))
        self.allowed.append(prompt.max_tokens)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        if answer.text:
            await emit(TextDelta(answer.text))
        return answer

    async def close(self) -> None:
        """Count it."""
        self.closed += 1


def says(text: str, **more: Any) -> Answer:
    """An answer of text."""
    return Answer(text=text, model="scripted", input_tokens=10, output_tokens=5, **more)


def calls(*asked: tuple[str, Any], text: str = "", refs: Iterable[str] = ()) -> Answer:
    """An answer that asks for tools by name, with arguments that are JSON text or made it."""
    named = [*refs, *("" for _ in asked)]
    return Answer(
        text=text,
        calls=tuple(
            AskedCall(
                named[place],
                name,
                given if isinstance(given, str) else msgspec.json.encode(given).decode(),
            )
            for place, (name, given) in enumerate(asked)
        ),
        model="scripted",
        input_tokens=10,
        output_tokens=5,
    )
