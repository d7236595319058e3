"""Every error the client raises.

ClientError
├── ProblemError         the server said no: the fields of its problem
├── ConnectionLost       the server could not be reached for as long as was to be tried
├── ClosedByServer       a WebSocket was closed for good: `code`, `reason`
└── ProtocolViolation    what answered does not speak this protocol
"""

from __future__ import annotations

from protocol.client.models import ClientTurn, ProblemBody


class ClientError(Exception):
    """Base of what the client raises."""


class ProblemError(ClientError):
    """The server refused the call, or the turn failed.

    `retryable` says whether the same call may succeed later, `retry_after_s` when. `turn` is the
    turn that failed, if one was accepted and is known.
    """

    def __init__(self, problem: ProblemBody, turn: ClientTurn | None = None) -> None:
        super().__init__(f"{problem.code}: {problem.detail}")
        self.code = problem.code
        self.status = problem.status
        self.detail = problem.detail
        self.retryable = problem.retryable
        self.retry_after_s = problem.retry_after_s
        self.request_id = problem.request_id
        self.turn_id = problem.turn_id if problem.turn_id is not None else turn and turn.id
        self.errors = problem.errors
        self.turn = turn


class ConnectionLost(ClientError):
    """The connection broke, and could not be had again within the time that was given."""


class ClosedByServer(ClientError):
    """The server closed the WebSocket with a code that is final: trying again would not help."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the server closed the connection: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class ProtocolViolation(ClientError):
    """What was received is not what the protocol says."""
