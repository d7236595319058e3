"""What the audit log notes of what a pool tells its observers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pool.guard.budget_notices import BudgetNotice
from pool.observer import (
    CallDecidedNotice,
    DecisionRefusedNotice,
    InputFlaggedNotice,
    Notice,
    ToolDecidedNotice,
    TurnAcceptedNotice,
    TurnRefusedNotice,
)
from pool.turn import Principal

if TYPE_CHECKING:
    from pool.guard.audit import Audit

_OUTCOMES: Final = {
    "allow": "allowed",
    "deny": "denied",
    "ask": "asked",
    "approve": "approved",
    "alert": "alerted",
}
# What a budget does is nobody's word.
_NOBODY: Final = Principal("", "", ())


def _accepted(audit: Audit, notice: TurnAcceptedNotice) -> None:
    turn = notice.turn
    who = Principal(turn.tenant, turn.user, turn.roles)
    audit.record("turn.accept", "accepted", who, f"turn:{turn.id}", notice.request_id)


def _refused(audit: Audit, notice: TurnRefusedNotice) -> None:
    who = Principal(notice.tenant, notice.user, notice.roles)
    subject = f"agent:{notice.agent}"
    audit.record_refusal("turn.accept", who, subject, notice.request_id, reason=notice.code)


def _flagged(audit: Audit, notice: InputFlaggedNotice) -> None:
    subject, reason = f"agent:{notice.agent}", " ".join(notice.rules)
    who, request_id = notice.principal, notice.request_id
    if notice.action == "refuse":
        audit.record_refusal("input.screen", who, subject, request_id, reason=reason)
    else:
        audit.record("input.screen", "flagged", who, subject, request_id, reason=reason)


def _budget(audit: Audit, notice: BudgetNotice) -> None:
    subject = f"budget:{notice.budget} {notice.subject}".rstrip()
    reason = f"agent:{notice.agent} {notice.percent}% of the {notice.unit} of {notice.period}"
    if notice.outcome == "refused":
        audit.record_refusal("budget.spend", _NOBODY, subject, reason=reason)
    else:
        outcome = _OUTCOMES.get(notice.outcome, notice.outcome)
        audit.record("budget.spend", outcome, _NOBODY, subject, reason=reason)


def _tool(audit: Audit, notice: ToolDecidedNotice) -> None:
    action, call = notice.decision.action, notice.call
    audit.record(
        "tool.call",
        _OUTCOMES.get(action, action),
        notice.principal,
        f"turn:{notice.turn_id} tool:{call.name}",
        notice.request_id,
        _digest(audit, call.arguments),
        reason=notice.by,
    )


def _decided(audit: Audit, notice: CallDecidedNotice) -> None:
    turn, call, by = notice.turn, notice.call, notice.by
    audit.record(
        "approval.decide",
        _OUTCOMES[notice.decision],
        Principal(turn.tenant, "", ()) if by is None else by,
        f"turn:{turn.id} tool:{call.name}",
        notice.request_id,
        _digest(audit, call.arguments),
        reason="expired" if by is None else "",
    )


def _decision_refused(audit: Audit, notice: DecisionRefusedNotice) -> None:
    subject = f"turn:{notice.turn_id} tool:{notice.tool}"
    audit.record_refusal(
        "approval.decide", notice.by, subject, notice.request_id, reason="forbidden"
    )


def _digest(audit: Audit, arguments: Mapping[str, Any]) -> str | None:
    try:
        return audit.digest(arguments)
    except (TypeError, ValueError, RecursionError):
        # an agent gave what is no plain data: that it wanted to call is noted all the same
        return None


NOTES: Final[Mapping[type[Notice], Callable[[Audit, Any], None]]] = {
    TurnAcceptedNotice: _accepted,
    TurnRefusedNotice: _refused,
    InputFlaggedNotice: _flagged,
    BudgetNotice: _budget,
    ToolDecidedNotice: _tool,
    CallDecidedNotice: _decided,
    DecisionRefusedNotice: _decision_refused,
}
