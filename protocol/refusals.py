"""What the log says of callers that were turned away: a line a second, with their number; and what
the audit log says: each of them, as long as they are not too many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from pool.errors import Forbidden, PoolError
from pool.guard.audit import Audit
from pool.turn import Principal

if TYPE_CHECKING:
    from protocol.http.request import Request

_EVERY_S: Final = 1.0
_STRANGER: Final = Principal("", "", ())

_log = structlog.get_logger("protocol.server")


class TurnedAway:
    """Counts callers that are not known or may not, and tells of them. Whoever tries to get in by
    guessing fills no disk.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told_at = float("-inf")
        self._untold = 0

    def tell(self, error: PoolError, *, client: str, request_id: str) -> None:
        """One more: why, and from which address."""
        now = self._clock()
        if now - self._told_at < _EVERY_S:
            self._untold += 1
            return
        _log.warning(
            "caller turned away",
            code=error.code,
            reason=error.detail,
            client=client,
            request_id=request_id,
            others=self._untold,
        )
        self._told_at, self._untold = now, 0


def note_stranger(audit: Audit | None, error: PoolError, client: str, request_id: str) -> None:
    """Somebody at the address `client` could not say who they are. What they showed is not noted:
    it may be a secret with a slip of the pen in it.
    """
    if audit is not None:
        subject = f"client:{client}"
        audit.record_refusal("authenticate", _STRANGER, subject, request_id, reason=error.code)


def note_intruder(
    audit: Audit | None, error: PoolError, who: Principal, subject: str, request_id: str
) -> None:
    """Somebody who is known wanted what they may not: the route, say, or who they wanted to be."""
    if audit is not None:
        audit.record_refusal("authorize", who, subject, request_id, reason=error.code)


def forbidden(audit: Audit | None, request: Request, path: str, detail: str) -> Forbidden:
    """The error for a known caller who may not have what is at `path`, once it is noted."""
    error = Forbidden(detail)
    subject = f"route:{request.method} {path}"
    note_intruder(audit, error, request.principal, subject, request.request_id)
    return error
