"""A conversation with a model: what was said, kept as session state, cut to what a model can read.

As state it is one JSON object a line, so that it grows by adding bytes. A turn that is under way
adds a last line, its progress; that line is gone once the turn has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from pool.errors import AgentFailed
from pool.turn import Message, Usage

# Of the bytes as kept: scripts with fewer characters to a token have more bytes to each.
BYTES_PER_TOKEN: Final = 4
# A conversation that has become too long is cut to this part of the window: cut to the brim, it
# would have to be cut, and written anew, in each turn that follows.
_KEEP: Final = 0.75


class Call(Struct, frozen=True, omit_defaults=True):
    """A call that a model asked for.

    `id` is its place in the turn, the same in every attempt; `ref` is what the model calls it.
    `flaw` says what is wrong with it, if it can be seen at once.
    """

    id: str
    ref: str
    name: str
    arguments: dict[str, Any] = {}
    flaw: str = ""


class UserSaid(Struct, frozen=True, tag_field="role", tag="user"):
    """What a person said."""

    text: str


class ModelSaid(Struct, frozen=True, tag_field="role", tag="assistant", omit_defaults=True):
    """What the model said, and the calls it asked for."""

    text: str = ""
    calls: tuple[Call, ...] = ()


class ToolSaid(Struct, frozen=True, tag_field="role", tag="tool"):
    """What came of a call."""

    ref: str
    text: str


class Progress(Struct, frozen=True, tag_field="role", tag="progress"):
    """What a turn that is under way has used, and in which attempt; how many of its requests had no
    answer.
    """

    usage: Usage
    attempt: int
    unanswered: int = 0


Entry = UserSaid | ModelSaid | ToolSaid

_decode = msgspec.json.Decoder(UserSaid | ModelSaid | ToolSaid | Progress).decode
_encoder = msgspec.json.Encoder()
_ABANDONED: Final = "not run: the turn ended before this call was decided"


class Conversation:
    """The entries of one session, oldest first, and what the turn under way has used."""

    __slots__ = ("_bytes", "_entries", "_grown_from", "_sizes", "attempt", "unanswered", "usage")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._sizes: list[int] = []
        self._bytes = 0
        # Entries from here on are not in the state yet; None: the state has to be written anew.
        self._grown_from: int | None = 0
        self.usage = Usage()
        # the attempt that the turn under way was last put down in; 0: it was not
        self.attempt = 0
        # how many requests of the turn were sent and had no answer
        self.unanswered = 0

    @classmethod
    def load(cls, state: bytes | None) -> Conversation:
        """Read a conversation from state; `AgentFailed` if it is none."""
        self = cls()
        try:
            for line in (state or b"").splitlines():
                entry = _decode(line)
                if isinstance(entry, Progress):
                    self.usage, self.attempt = entry.usage, entry.attempt
                    self.unanswered = entry.unanswered
                    self._grown_from = None
                else:
                    self._keep(entry, len(line))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise AgentFailed(
                "the session's state is not a conversation: begin a new session"
            ) from error
        if self._grown_from is not None:
            self._grown_from = len(self._entries)
        return self

    @property
    def entries(self) -> Sequence[Entry]:
        """What was said, oldest first."""
        return self._entries

    @property
    def tokens(self) -> int:
        """About how many tokens the model has to read."""
        return self._bytes // BYTES_PER_TOKEN

    @property
    def steps(self) -> int:
        """How many answers the turn under way has had."""
        return self.usage.requests - self.unanswered

    @property
    def open_calls(self) -> list[Call]:
        """The calls that the model asked for last and that have no result."""
        answered: set[str] = set()
        for entry in reversed(self._entries):
            if isinstance(entry, ToolSaid):
                answered.add(entry.ref)
            else:
                calls = entry.calls if isinstance(entry, ModelSaid) else ()
                return [call for call in calls if call.ref not in answered]
        return []

    @property
    def has_spoken(self) -> bool:
        """Whether the model has said something since it was asked last."""
        for entry in reversed(self._entries):
            if isinstance(entry, UserSaid):
                return False
            if isinstance(entry, ModelSaid) and entry.text:
                return True
        return False

    def add(self, entry: Entry) -> None:
        """Something more was said."""
        self._keep(entry, len(_encoder.encode(entry)))

    def begin(self, unseen: Sequence[Message], text: str) -> None:
        """A new turn: what was said elsewhere meanwhile, and now its input."""
        for call in self.open_calls:
            self.add(ToolSaid(call.ref, _ABANDONED))
        for message in unseen:
            user = message.role == "user"
            self.add(UserSaid(message.content) if user else ModelSaid(message.content))
        self.add(UserSaid(text))
        self.usage, self.attempt, self.unanswered = Usage(), 0, 0

    def trim(self, window_tokens: int) -> None:
        """Let the oldest go if the conversation is longer than the window.

        Whole exchanges go first, then the first steps of the last one. Its question stays, and so
        does its last step; a call and its results go together.
        """
        if self.tokens <= window_tokens:
            return
        target = int(window_tokens * _KEEP) * BYTES_PER_TOKEN
        questions = [i for i, entry in enumerate(self._entries) if isinstance(entry, UserSaid)]
        self._drop(0, questions, target)
        steps = [i for i, entry in enumerate(self._entries) if isinstance(entry, ModelSaid) and i]
        self._drop(1, steps, target)

    def state(self) -> bytes:
        """The whole conversation as state."""
        return b"".join(map(_line, self._entries))

    def checkpoint(self, attempt: int) -> bytes:
        """The conversation and the turn's progress as state."""
        self._grown_from = None
        return self.state() + _line(Progress(self.usage, attempt, self.unanswered))

    def take_growth(self) -> bytes | None:
        """What has to be added to the state it was read from; None: it has to be written anew."""
        start, self._grown_from = self._grown_from, len(self._entries)
        return None if start is None else b"".join(map(_line, self._entries[start:]))

    def _keep(self, entry: Entry, size: int) -> None:
        self._entries.append(entry)
        self._sizes.append(size)
        self._bytes += size

    def _drop(self, first: int, ends: Sequence[int], target: int) -> None:
        """Drop from `first` to the first of the ends that reaches the target, else to the last."""
        size, end = self._bytes, first
        for place in ends:
            if size <= target:
                break
            size -= sum(self._sizes[end:place])
            end = max(end, place)
        if end > first:
            del self._entries[first:end], self._sizes[first:end]
            self._bytes = size
            self._grown_from = None


def _line(entry: Entry | Progress) -> bytes:
    return _encoder.encode(entry) + b"\n"
