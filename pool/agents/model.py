"""What the chat agent needs of a model, whichever wire format it speaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from pool.agents.conversation import Entry
from pool.errors import ProviderError
from pool.events import Event

Emit = Callable[[Event], Awaitable[None]]


class ToolSchema(Struct, frozen=True):
    """A tool as a model sees it; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class Prompt(Struct, frozen=True):
    """One request to a model. `max_tokens` is the most it may say."""

    entries: Sequence[Entry]
    max_tokens: int | None = None


class AskedCall(Struct, frozen=True):
    """A tool call as the model wrote it: its name for the call, and the arguments as JSON text."""

    ref: str
    name: str
    arguments: str


class Answer(Struct, frozen=True):
    """A model's whole answer. `cut`: it would have said more than it may. `degraded`: no model
    could be asked, these are the words for that case. `cost_usd`: what it cost, if the model itself
    knows (None: its price says).
    """

    text: str = ""
    calls: tuple[AskedCall, ...] = ()
    cut: bool = False
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    degraded: bool = False
    cost_usd: float | None = None


class BrokenOff(Exception):
    """A model failed (`error`) when something of its answer was told already: asked again, it would
    say that twice.
    """

    def __init__(self, error: ProviderError) -> None:
        super().__init__(error.detail)
        self.error = error


class Model(Protocol):
    """A model that answers prompts. It was told its instructions and tools when it was made."""

    async def open(self) -> None:
        """Once, before the first prompt."""

    async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
        """Answer a prompt; emit the text and the reasoning as they come. Raises `ProviderError`, or
        `BrokenOff`.
        """

    async def close(self) -> None:
        """Once, in the same task as `open`."""
