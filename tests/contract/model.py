"""The contract in the fewest words: sessions as plain lists, nothing packed, nothing forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field

from pool.events import Cursor
from pool.store.base import Lease, StateChange
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
    held_until: float = 0.0

    def free(self, now: float) -> bool:
        """Whether anybody may claim it."""
        return self.lease is None or self.held_until <= now

    def claim(self, lease: Lease, until: float) -> None:
        """It was claimed: by the same owner in the same epoch, by another in a later one."""
        if self.lease is not None and self.lease.owner == lease.owner:
            assert lease == self.lease
        elif self.lease is not None:
            assert lease.epoch > self.lease.epoch
        self.lease, self.held_until = lease, until

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

    def end(self, turn: Turn, change: StateChange | None, until: float) -> bool:
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
        self.held_until = until if self.unfinished else 0.0
        return not self.unfinished
