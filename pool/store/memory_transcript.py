"""The transcript of one session in the memory store, and what each agent keeps of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from msgspec import Struct

from pool.store.base import AgentState, Page, StateChange
from pool.store.listing import place_of
from pool.turn import Message, Turn, messages

# What one turn said: the turn itself, or its messages once its record is gone.
Entry = Turn | tuple[Message, ...]


class KeptState(Struct, eq=False):
    """An agent's state of a session. It has seen the first `seen` entries of the transcript."""

    format: str
    # joined when somebody asks, so that what is appended costs no more than itself
    parts: list[bytes]
    version: int
    seen: int

    def data(self) -> bytes:
        """The whole of it."""
        if len(self.parts) > 1:
            self.parts = [b"".join(self.parts)]
        return self.parts[0]


class Transcript(Struct, eq=False):
    """What was said in a session, oldest first, an entry a turn."""

    entries: list[Entry] = []
    # how many entries were dropped before these
    dropped: int = 0
    # by agent (None: there are none)
    states: dict[str, KeptState] | None = None
    # by turn: a state that counts for this turn only, until it ends
    checkpoints: dict[str, KeptState] | None = None

    @property
    def length(self) -> int:
        """How many entries there have been."""
        return self.dropped + len(self.entries)

    def end(self, turn: Turn, change: StateChange | None, version: int) -> None:
        """Add what an ended turn said. If it completed its agent has seen it, and all before it."""
        if turn.spoken:
            self.entries.append(turn)
        if self.checkpoints is not None:
            self.checkpoints.pop(turn.id, None)
        if turn.state != "completed":
            return
        if change is not None:
            self.states = self.states or {}
            state = self.states.get(turn.agent)
            self.states[turn.agent] = _changed(state, change, version, self.length)
        elif self.states is not None and turn.agent in self.states:
            self.states[turn.agent].seen = self.length

    def checkpoint(self, turn: Turn, change: StateChange, version: int) -> None:
        """Keep a state for a turn that has not ended."""
        self.checkpoints = self.checkpoints or {}
        state = self._state(turn.agent, turn.id)
        self.checkpoints[turn.id] = _changed(state, change, version, self.length)

    def state(self, agent: str, turn_id: str) -> AgentState:
        """The turn's checkpoint, or else the agent's state; and what it has not seen."""
        state = self._state(agent, turn_id)
        if state is None:
            return AgentState("", None, 0, tuple(self._messages(0)))
        unseen = tuple(self._messages(max(0, state.seen - self.dropped)))
        return AgentState(state.format, state.data(), state.version, unseen)

    def _state(self, agent: str, turn_id: str) -> KeptState | None:
        checkpoint = self.checkpoints.get(turn_id) if self.checkpoints is not None else None
        if checkpoint is not None or self.states is None:
            return checkpoint
        return self.states.get(agent)

    def page(self, after: str | None, limit: int) -> Page[Message]:
        """A page of messages. Entry n holds the places 2n + 1 and 2n + 2 of the listing."""
        found: list[tuple[int, Message]] = []
        after_place = place_of(after)
        first = max(0, after_place // 2 - self.dropped)
        for number, entry in enumerate(islice(self.entries, first, None), self.dropped + first):
            for place, message in enumerate(said(entry), 2 * number + 1):
                if place > after_place:
                    found.append((place, message))
            if len(found) > limit:
                break
        more = len(found) > limit
        return Page(
            [message for _, message in found[:limit]], str(found[limit - 1][0]) if more else None
        )

    def through(self, turn_id: str, later: Sequence[str] | None) -> list[Entry] | None:
        """The entries up to a turn's own. If it said nothing: up to those of the turns after it.

        `later` are the turns accepted after it; None: the turn is not known but for what it said.
        """
        ids = [_turn_id(entry) for entry in self.entries]
        if turn_id in ids:
            return self.entries[: ids.index(turn_id) + 1]
        if later is None:
            return None
        return self.entries[: min((ids.index(each) for each in later if each in ids), default=None)]

    def let_go(self, turn_ids: set[str]) -> None:
        """The records of these turns go; what they said stays."""
        for index, entry in enumerate(self.entries):
            if isinstance(entry, Turn) and entry.id in turn_ids:
                self.entries[index] = messages(entry)

    def trim(self, entries_max: int) -> None:
        """Drop the oldest entries, so that at most so many are left."""
        surplus = len(self.entries) - entries_max
        if surplus > 0:
            del self.entries[:surplus]
            self.dropped += surplus

    def _messages(self, first: int) -> Iterator[Message]:
        for entry in islice(self.entries, first, None):
            yield from said(entry)


def said(entry: Entry) -> tuple[Message, ...]:
    """The messages of an entry."""
    return messages(entry) if isinstance(entry, Turn) else entry


def _turn_id(entry: Entry) -> str:
    return entry.id if isinstance(entry, Turn) else entry[0].turn_id


def _changed(state: KeptState | None, change: StateChange, version: int, seen: int) -> KeptState:
    # what is appended to a state of another format begins a new one
    grows = change.append and state is not None and state.format == change.format
    parts = [*state.parts, change.data] if grows and state is not None else [change.data]
    return KeptState(change.format, parts, version, seen)
