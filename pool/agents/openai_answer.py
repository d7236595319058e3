"""OpenAI-compatible chat completions: streamed answers read. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from pool.agents.model import Answer, AskedCall
from pool.agents.refusals import ErrorObject, broken, refusal_of, refused_midway
from pool.errors import ModelUnusable, ProviderError
from pool.events import Event, ReasoningDelta, TextDelta

# A model that asks for more than this in one step is not working but broken.
_MAX_CALLS: Final = 128
_MAX_ARGUMENTS_CHARS: Final = 2**20
# Reasons to finish that mean that the provider gave up, as some say it instead of an error.
_GAVE_UP: Final = ("error", "abort", "insufficient_system_resource")
_NO_CHUNK: Final = "the model's provider sent what is not a chat completion"


class _FunctionDelta(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _CallDelta(Struct, gc=False):
    index: int = 0
    id: str | None = None
    function: _FunctionDelta | None = None


class _Delta(Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallDelta] | None = None


class _Choice(Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    error: ErrorObject | str | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


class AnswerReader:
    """Reads the chunks of one streamed answer, and puts them together."""

    __slots__ = (
        "_calls",
        "_finish",
        "_growing",
        "_kind",
        "_model",
        "_pieces",
        "_texts",
        "_usage",
        "done",
        "unsaid",
    )

    def __init__(self, model: str) -> None:
        self.done = False
        self.unsaid = 0
        self._model = model
        self._texts: list[str] = []
        # what has come and was not made an event yet, all of one kind
        self._kind: type[TextDelta | ReasoningDelta] = TextDelta
        self._pieces: list[str] = []
        # the calls in order, and those that still grow by the index that the provider gave them
        self._calls: list[_GrowingCall] = []
        self._growing: dict[int, _GrowingCall] = {}
        self._finish: str | None = None
        self._usage = _Usage()

    def take(self, data: Sequence[bytes]) -> Sequence[Event]:
        """What these chunks say; pieces of text that follow each other are one event.

        Raises `ProviderError` if they are malformed or say that the provider failed.
        """
        events: list[Event] = []
        for each in data:
            if each == b"[DONE]":
                self.done = True
                break
            if not each:
                continue
            chunk = _chunk(each)
            if chunk.choices:
                choice = chunk.choices[0]
                if choice.delta is not None:
                    self._take(choice.delta, events)
                if choice.finish_reason:
                    self._finish = choice.finish_reason
            self._note(chunk)
        self._tell(events)
        return events

    def answer(self) -> Answer:
        """The whole answer; `ProviderError` if it ended before it was complete."""
        text = "".join(self._texts)
        # some never give a reason: then there has to be an answer at least
        if self._finish is None and not (self.done and (text or self._calls)):
            raise broken("the model's provider ended its answer before it was complete")
        if self._finish in _GAVE_UP:
            raise broken(
                f"the model's provider gave up in the middle of the answer ({self._finish})"
            )
        if self._finish == "content_filter" and not text:
            raise ProviderError("the model's provider withheld the answer (content_filter)")
        calls = tuple(call.whole() for call in self._calls)
        return Answer(
            text=text,
            calls=calls,
            cut=self._finish == "length",
            model=self._model,
            input_tokens=self._usage.prompt_tokens or 0,
            output_tokens=self._usage.completion_tokens or 0,
        )

    def _take(self, delta: _Delta, events: list[Event]) -> None:
        if text := delta.reasoning_content or delta.reasoning:
            if self._kind is TextDelta:
                self._tell(events)
            self._kind = ReasoningDelta
            self._pieces.append(text)
        if text := delta.content or delta.refusal:
            if self._kind is ReasoningDelta:
                self._tell(events)
            self._kind = TextDelta
            self._pieces.append(text)
        if delta.tool_calls:
            self._grow(delta.tool_calls)

    def _tell(self, events: list[Event]) -> None:
        """Make one event of the pieces that came one after the other."""
        if self._pieces:
            text = "".join(self._pieces)
            self._pieces.clear()
            if self._kind is TextDelta:
                self._texts.append(text)
            events.append(self._kind(text))

    def _note(self, chunk: _Chunk) -> None:
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.model:
            self._model = chunk.model
        if chunk.error is not None:
            raise refused_midway(refusal_of(chunk.error))

    def _grow(self, deltas: Sequence[_CallDelta]) -> None:
        for delta in deltas:
            call = self._growing.get(delta.index)
            if call is None or call.is_other(delta):
                if len(self._calls) >= _MAX_CALLS:
                    raise ModelUnusable(
                        f"the model asked for more than {_MAX_CALLS} tool calls at once"
                    )
                call = self._growing[delta.index] = _GrowingCall()
                self._calls.append(call)
            self.unsaid += call.grow(delta)


class _GrowingCall:
    """A tool call that comes in pieces."""

    __slots__ = ("_arguments", "_chars", "_name", "_ref")

    def __init__(self) -> None:
        self._ref = ""
        self._name = ""
        self._arguments: list[str] = []
        self._chars = 0

    def is_other(self, delta: _CallDelta) -> bool:
        """Whether the delta begins another call; some providers give all of them the same index."""
        return bool(delta.id and self._ref and delta.id != self._ref)

    def grow(self, delta: _CallDelta) -> int:
        """How many characters longer its arguments are."""
        self._ref = self._ref or delta.id or ""
        function = delta.function
        if function is None:
            return 0
        self._name = self._name or function.name or ""
        chars = len(function.arguments or "")
        if chars:
            self._chars += chars
            if self._chars > _MAX_ARGUMENTS_CHARS:
                raise ModelUnusable(
                    f"the model wrote more than {_MAX_ARGUMENTS_CHARS} characters of tool arguments"
                )
            self._arguments.append(function.arguments or "")
        return chars

    def whole(self) -> AskedCall:
        return AskedCall(self._ref, self._name, "".join(self._arguments))


def _chunk(data: bytes) -> _Chunk:
    try:
        return _decode(data)
    except (msgspec.ValidationError, RecursionError) as error:
        # whole, and something else: that is how this provider speaks
        raise ModelUnusable(_NO_CHUNK) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # cut or garbled on its way
        raise broken(_NO_CHUNK) from error
