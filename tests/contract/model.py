"""The contract in the fewest words: sessions as plain lists, nothing packed, nothing forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from pool.events import Cursor
from pool.store.base import Lease, StateChange
from pool.store.sharing import Signal
from pool.turn import Turn


@dataclass
class ModelSession:
    """A session as the contract says it should be."""

    turns: list[Turn] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    log: list[Cursor] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    # by agent, and by turn: a state and how much of `said` it has seen
    states: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    checkpoints: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    lease: Lease | None = None
    held: bool = False
    # not read yet: turns that arrived since it was claimed, and signals
    arrived: list[str] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    decided: set[str] = field(default_factory=set)

    def holder(self, alive: set[str]) -> str:
        """Who holds it and lives."""
        return self.lease.owner if self.lease and self.held and self.lease.owner in alive else ""

    def claim(self, lease: Lease, *, anew: bool) -> None:
        """It changes hands in a later epoch; who takes up again what it let go may keep its own."""
        if self.lease is not None:
            kept = self.lease == lease and not self.held and not anew
            assert kept or lease.epoch > self.lease.epoch
        self.lease, self.held = lease, True
        self.arrived.clear()

    def state(self, agent: str, turn_id: str) -> tuple[bytes | None, list[str]]:
        """What an agent gets, and what it has not seen."""
        data, seen = self.checkpoints.get(turn_id) or self.states.get(agent) or (None, 0)
        return data, self.said[seen:]

    def grown(self, agent: str, turn_id: str, change: StateChange) -> bytes:
        """A state after a change."""
        before = self.state(agent, turn_id)[0] or b""
        return before + change.data if change.append else change.data

    def checkpoint(self, turn: Turn, change: StateChange) -> None:
        """A turn has a state of its own, until it ends."""
        data = self.grown(turn.agent, turn.id, change)
        self.checkpoints[turn.id] = (data, len(self.said))

    def end(self, turn: Turn, change: StateChange | None) -> bool:
        """A turn has ended; whether the lease was released with it."""
        self.checkpoints.pop(turn.id, None)
        grown = self.grown(turn.agent, "", change) if change is not None else None
        if turn.spoken:
            self.said += [turn.input, turn.output] if turn.output else [turn.input]
        if turn.state == "completed":
            data = grown if grown is not None else self.state(turn.agent, "")[0]
            if data is not None:
                self.states[turn.agent] = (data, len(self.said))
        self.unfinished.remove(turn.id)
        self.held = bool(self.unfinished)
        return not self.unfinished

    def letters(self) -> tuple[list[str], list[Signal]]:
        """What the holder is still to be told about turns that have not ended, each thing once."""
        signals = dict.fromkeys(each for each in self.signals if each.turn_id in self.unfinished)
        return [each for each in self.arrived if each in self.unfinished], list(signals)
