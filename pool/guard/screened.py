"""Looks at the input of a turn before it is admitted."""

from __future__ import annotations

import structlog

from pool.errors import InvalidRequest
from pool.guard.screen import Screen
from pool.observer import InputFlaggedNotice, Observers
from pool.turn import Principal, Turn

_log = structlog.get_logger("pool.guard.screen")


async def look_at(screen: Screen, turn: Turn, request_id: str, observers: Observers) -> None:
    """Return if the turn may go on; `InvalidRequest`, which does not say by which rule, if not.

    What is suspicious is told to the log and to observers, by the names of rules: never the text.
    """
    verdict = await screen.check(turn.input)
    action = verdict.action
    if action == "pass":
        return
    principal = Principal(turn.tenant, turn.user, turn.roles)
    _log.warning(
        "suspicious input",
        action=action,
        rules=verdict.rules,
        agent=turn.agent,
        session_id=turn.session_id,
        request_id=request_id,
    )
    if observers:
        observers.notice(
            InputFlaggedNotice(
                turn.agent, action, verdict.rules, principal, turn.session_id, request_id
            )
        )
    if action == "refuse":
        raise InvalidRequest("this server does not take this input", field="input")
