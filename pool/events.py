"""What happens in a turn, one struct a kind, and the cursor that names a place in a session's log.

An agent makes an event without a place (`TextDelta("hello")`) and emits it; the log stamps it with
the epoch of its writer, its place (`seq`), its turn and session. Places are dense within a session.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

from msgspec import Struct

from pool.errors import InvalidRequest
from pool.turn import Risk, Turn, Usage


class Cursor(NamedTuple):
    """A place in a session's log: everything after it is still to be read."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor written as `<epoch>-<seq>`; `InvalidRequest` for anything else."""
        epoch, dash, seq = text.partition("-")
        # 19 digits hold any 63-bit number; isascii keeps other scripts' digits out
        plain = dash and text.isascii() and epoch.isdigit() and seq.isdigit()
        if not plain or len(epoch) > 19 or len(seq) > 19:
            raise InvalidRequest(
                "a cursor is <epoch>-<seq>, as in the id of an event; give the last one you read",
                field="cursor",
            )
        return cls(int(epoch), int(seq))


START = Cursor(0, 0)


class Event(Struct, kw_only=True, gc=False):
    """Base of all events. `at` is in seconds since the epoch; deltas have none."""

    type: ClassVar[str]
    terminal: ClassVar[bool] = False

    epoch: int = 0
    seq: int = 0
    turn_id: str = ""
    session_id: str = ""
    at: float = 0.0

    @property
    def cursor(self) -> Cursor:
        """The event's place in the session's log."""
        return Cursor(self.epoch, self.seq)

    @property
    def id(self) -> str:
        """The cursor as text: the SSE id, and what a reader resumes from."""
        return f"{self.epoch}-{self.seq}"


class TurnQueued(Event, tag="turn.queued"):
    """The turn was accepted; `position` turns go before it (0: it starts at once)."""

    type = "turn.queued"
    position: int = 0


class TurnStarted(Event, tag="turn.started"):
    """An actor runs the turn. An attempt above 1 means: forget this turn's text so far."""

    type = "turn.started"
    attempt: int = 1


class TextDelta(Event, tag="text.delta"):
    """A piece of the answer."""

    type = "text.delta"
    text: str


class ReasoningDelta(Event, tag="reasoning.delta"):
    """A piece of the model's reasoning; not part of the output."""

    type = "reasoning.delta"
    text: str


class ToolCalled(Event, tag="tool.called"):
    """The agent calls a tool."""

    type = "tool.called"
    call_id: str
    name: str
    arguments: dict[str, Any] = {}


class ToolReturned(Event, tag="tool.returned"):
    """A tool has answered, or failed (`is_error`)."""

    type = "tool.returned"
    call_id: str
    result: Any = None
    is_error: bool = False


class ApprovalRequested(Event, tag="approval.requested"):
    """A tool call waits for a human."""

    type = "approval.requested"
    call_id: str
    name: str
    arguments: dict[str, Any]
    risk: Risk
    expires_at: float


class ApprovalDecided(Event, tag="approval.decided"):
    """A human has decided about a tool call."""

    type = "approval.decided"
    call_id: str
    decision: Literal["approve", "deny"]
    by: str


ModelStep = Literal[
    "routed", "retried", "fell_back", "skipped", "budget", "cached", "shared", "degraded"
]


class ModelDecided(Event, tag="model.decided"):
    """Something was decided about the model that answers: it was `routed` by a rule, the call is
    `retried` after a failure, the next of the chain is asked (`fell_back`), one was `skipped`
    because its circuit breaker is open, a `budget` wants this one; or none is asked: the answer is
    `cached`, `shared` with an equal question that was being answered, or the last resort
    (`degraded`).

    `model` is the one that is asked now ("" for none), `reason` a short text without secrets.
    """

    type = "model.decided"
    step: ModelStep
    model: str = ""
    reason: str = ""


class UsageReported(Event, tag="usage"):
    """The turn's usage so far."""

    type = "usage"
    usage: Usage


class TurnEnded(Event):
    """Base of the terminal events: they carry the turn as it ended."""

    terminal = True
    turn: Turn


class TurnCompleted(TurnEnded, tag="turn.completed"):
    """The agent has answered."""

    type = "turn.completed"


class TurnFailed(TurnEnded, tag="turn.failed"):
    """The turn failed; `turn.error` says why."""

    type = "turn.failed"


class TurnCancelled(TurnEnded, tag="turn.cancelled"):
    """The turn was cancelled, or rolled back (`turn.forgotten`)."""

    type = "turn.cancelled"


class TurnExpired(TurnEnded, tag="turn.expired"):
    """The turn's deadline passed."""

    type = "turn.expired"


class TurnInterrupted(TurnEnded, tag="turn.interrupted"):
    """A later turn, or the end of the pool, interrupted this one; what it said is kept."""

    type = "turn.interrupted"


class HistoryLost(Event, tag="history.lost"):
    """Events that can no longer be replayed; the reader goes on after this event's own cursor."""

    type = "history.lost"
    lost_from: str
    lost_to: str


ENDINGS: dict[str, type[TurnEnded]] = {
    "completed": TurnCompleted,
    "failed": TurnFailed,
    "cancelled": TurnCancelled,
    "expired": TurnExpired,
    "interrupted": TurnInterrupted,
}
