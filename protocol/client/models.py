"""What the server says, as structs. Fields that this version does not know are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from pool.turn import Risk, State, TurnError, Usage

_ENDED: Final = frozenset({"completed", "failed", "cancelled", "expired", "interrupted"})


class FieldProblem(Struct, frozen=True):
    """What is wrong with one field of a request."""

    field: str
    message: str


class ProblemBody(Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem."""

    code: str
    status: int
    detail: str = ""
    title: str = ""
    retryable: bool = False
    retry_after_s: float | None = None
    request_id: str = ""
    turn_id: str | None = None
    errors: tuple[FieldProblem, ...] = ()


class AgentInfo(Struct, frozen=True):
    """An agent of the server."""

    name: str
    description: str = ""
    default: bool = False


class AgentList(Struct, frozen=True):
    """All agents of the server."""

    agents: tuple[AgentInfo, ...]


class PendingCall(Struct, frozen=True):
    """A tool call that waits for a human until `expires_at`."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    risk: Risk
    expires_at: datetime


class ClientTurn(Struct, frozen=True, kw_only=True):
    """A turn as the server reports it. `output` is what was said so far; durations in seconds."""

    id: str
    session_id: str
    agent: str
    state: State
    input: str | None = None
    output: str = ""
    error: TurnError | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    pending: tuple[PendingCall, ...] = ()
    attempt: int = 0
    queued_s: float = 0.0
    run_s: float = 0.0
    created_at: datetime | None = None
    finished_at: datetime | None = None
    metadata: dict[str, Any] = {}
    forgotten: bool = False
    stop_reason: str | None = None
    marks: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it has reached a terminal state."""
        return self.state in _ENDED


class ClientSession(Struct, frozen=True, kw_only=True):
    """A session; `cursor` is the end of its log."""

    id: str
    agent: str | None = None
    metadata: dict[str, Any] = {}
    ttl_s: float | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    turns: int = 0
    cursor: str = "0-0"


class ClientMessage(Struct, frozen=True):
    """One entry of a transcript."""

    role: Literal["user", "assistant"]
    content: str
    turn_id: str
    created_at: datetime


class SessionPage(Struct, frozen=True):
    """A part of the sessions, and where the next part begins (None: this was the last)."""

    sessions: tuple[ClientSession, ...]
    next_cursor: str | None = None


class MessagePage(Struct, frozen=True):
    """A part of a transcript, and where the next part begins (None: this was the last)."""

    messages: tuple[ClientMessage, ...]
    next_cursor: str | None = None


class Check(Struct, frozen=True):
    """One thing that the server depends on."""

    ok: bool
    detail: str | None = None


class Readiness(Struct, frozen=True):
    """Whether the server may take traffic."""

    ready: bool
    checks: dict[str, Check] = {}
