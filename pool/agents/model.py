"""What the chat agent needs of a model, whichever wire format it speaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from pool.agents.conversation import Entry
from pool.errors import ProviderError
from pool.events import Event, ReasoningDelta, TextDelta

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


class Hearing:
    """What is heard of one request: called with the events of its answer, it emits them. What the
    request cost is made out from it, if no answer comes that says so.

    `answered` is called when something comes.
    """

    __slots__ = ("_answered", "_emit", "chars", "refused", "sent", "unsaid")

    def __init__(self, emit: Emit, answered: Callable[[], None] | None = None) -> None:
        self._emit = emit
        self._answered = answered
        # the provider has got it, or some of it at least; for the model to say
        self.sent = False
        # it was refused: its provider has done nothing for it
        self.refused = False
        # characters of text and reasoning
        self.chars = 0
        # characters of which no event is made, such as those of arguments
        self.unsaid = 0

    def __call__(self, event: Event) -> Awaitable[None]:
        """Emit what has come."""
        self.sent = True
        if self._answered is not None:
            self._answered()
        if isinstance(event, TextDelta | ReasoningDelta):
            self.chars += len(event.text)
        return self._emit(event)


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

    async def ask(self, prompt: Prompt, emit: Hearing) -> Answer:
        """Answer a prompt; emit the text and the reasoning as they come, and say so when the prompt
        is sent: from then on it may cost something. Raises `ProviderError`, or `BrokenOff`.
        """

    async def close(self) -> None:
        """Once, in the same task as `open`."""
