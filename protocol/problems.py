"""Errors as RFC 9457 problems: one table turns an error's code into a status and a title.

The errors that only a door can raise are here too; they are `PoolError`s like the engine's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from pool.errors import InvalidRequest, PoolError
from pool.turn import Turn

STATUS: Final[dict[str, int]] = {
    "invalid_request": 400,
    "unauthenticated": 401,
    "budget_exceeded": 402,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "session_busy": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "idempotency_mismatch": 422,
    "rate_limited": 429,
    "tenant_queue_full": 429,
    "internal": 500,
    "agent_failed": 502,
    "dead_letter": 502,
    "overloaded": 503,
    "agent_degraded": 503,
    "store_unavailable": 503,
    "draining": 503,
    "deadline_exceeded": 504,
}

_TITLES: Final[dict[str, str]] = {
    "invalid_request": "The request is not valid",
    "unauthenticated": "Who is calling is not known",
    "budget_exceeded": "The budget is used up",
    "forbidden": "Not allowed",
    "not_found": "There is no such thing",
    "conflict": "Not possible in this state",
    "session_busy": "The session has a turn already",
    "too_large": "Too large",
    "unsupported_media_type": "This media type is not understood",
    "idempotency_mismatch": "The idempotency key was used with another request",
    "rate_limited": "Too many requests",
    "tenant_queue_full": "Too many turns are waiting",
    "internal": "A defect of the server",
    "agent_failed": "The agent could not answer",
    "dead_letter": "The turn failed too often",
    "overloaded": "The server is full",
    "agent_degraded": "The agent is out of order",
    "store_unavailable": "The store does not answer",
    "draining": "The server is shutting down",
    "deadline_exceeded": "The deadline passed",
}

# What a caller is told to wait where the error itself does not say: seconds.
_RETRY_AFTER_S: Final = 1.0
_WITH_RETRY_AFTER: Final = frozenset({402, 429, 503})
_ALWAYS: Final = frozenset({429, 503})


class FieldError(Struct, frozen=True):
    """What is wrong with one field; `field` is its path, "" for the whole body."""

    field: str
    message: str


class Problem(Struct, frozen=True, kw_only=True):
    """An RFC 9457 problem: what `application/problem+json` carries."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    request_id: str
    turn_id: str | UnsetType = UNSET
    retry_after_s: float | UnsetType = UNSET
    errors: list[FieldError] | UnsetType = UNSET


class InvalidFields(InvalidRequest):
    """Parts of the request are wrong: which, and why."""

    def __init__(self, detail: str, errors: Sequence[FieldError]) -> None:
        super().__init__(detail, field=errors[0].field if errors else None)
        self.errors = list(errors)


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not with this method; `allow` are those that it has."""

    status = 405

    def __init__(self, allow: Sequence[str]) -> None:
        super().__init__(f"this path takes {', '.join(allow)} only")
        self.allow = tuple(allow)


class BodyTimeout(InvalidRequest):
    """The request did not arrive in time."""

    status = 408
    retryable = True


class Unauthenticated(PoolError):
    """It is not known who is calling."""

    code = "unauthenticated"


class UnsupportedMediaType(PoolError):
    """The body is of a type or coding that is not understood."""

    code = "unsupported_media_type"


def problem(
    code: str,
    detail: str,
    *,
    request_id: str,
    status: int | None = None,
    retryable: bool = False,
    turn_id: str | None = None,
    retry_after_s: float | None = None,
    errors: list[FieldError] | None = None,
) -> Problem:
    """A problem; its status is the code's unless given."""
    if status is None:
        status = STATUS.get(code, 500)
    if retry_after_s is None and status in _ALWAYS:
        retry_after_s = _RETRY_AFTER_S
    return Problem(
        type=f"urn:actorpool:problem:{code}",
        title=_TITLES.get(code, "The request failed"),
        status=status,
        detail=detail,
        code=code,
        retryable=retryable,
        request_id=request_id,
        turn_id=UNSET if turn_id is None else turn_id,
        retry_after_s=UNSET if retry_after_s is None else retry_after_s,
        errors=errors or UNSET,
    )


def problem_of(error: Exception, *, request_id: str) -> Problem:
    """The problem that tells a caller of `error`. What is not a `PoolError` is `internal`: its text
    stays here."""
    if not isinstance(error, PoolError):
        return problem(
            "internal",
            "the server failed to answer this; the request id finds it in the logs",
            request_id=request_id,
        )
    return problem(
        error.code,
        error.detail,
        request_id=request_id,
        status=getattr(error, "status", None),
        retryable=error.retryable,
        turn_id=error.turn_id,
        retry_after_s=error.retry_after_s,
        errors=_field_errors(error),
    )


def problem_of_turn(turn: Turn, *, request_id: str) -> Problem | None:
    """Why an ended turn is no answer: it failed or expired. None for every other turn."""
    if turn.state == "expired":
        code, detail, retryable = "deadline_exceeded", "the turn's deadline passed", True
    elif turn.state != "failed":
        return None
    else:
        code, detail, retryable = "agent_failed", "the agent could not answer", False
    if turn.error is not None:
        code, detail, retryable = turn.error.code, turn.error.detail, turn.error.retryable
    return problem(
        code,
        detail,
        request_id=request_id,
        status=STATUS.get(code, 502),
        retryable=retryable,
        turn_id=turn.id,
    )


def retry_after(problem: Problem, random: Callable[[], float]) -> int | None:
    """The seconds of the `Retry-After` header: `retry_after_s` rounded up, at least 1, and up to a
    quarter and two seconds more, so that refused callers do not come back all at once."""
    if problem.status not in _WITH_RETRY_AFTER or problem.retry_after_s is UNSET:
        return None
    seconds = max(1, math.ceil(problem.retry_after_s))
    return seconds + int(random() * (2 + seconds / 4))


def _field_errors(error: PoolError) -> list[FieldError] | None:
    if isinstance(error, InvalidFields):
        return error.errors
    if isinstance(error, InvalidRequest) and error.field is not None:
        return [FieldError(error.field, error.detail)]
    return None
