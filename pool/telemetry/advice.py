"""What else than turns is worth a line: what happened, to whom, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import structlog

from pool.observer import (
    ActorStartedNotice,
    ActorStoppedNotice,
    AgentStateNotice,
    LimitChangedNotice,
    Notice,
    ScaledNotice,
    TasksLeakedNotice,
    TurnRefusedNotice,
    TurnRepeatedNotice,
)

# Seconds between two lines about refusals of one agent for one reason: overload is no reason for
# a flood.
REFUSAL_INTERVAL_S: Final = 10.0

_log = structlog.get_logger("pool")

_REFUSED: Final = {
    "tenant_queue_full": "raise pool.tenant_share or pool.queue_max, or the tenant sends less",
    "overloaded": "raise the agent's max, the provider's limit or queue_max, or add a process",
    "agent_degraded": "see the agent's own errors above: its actors keep failing",
    "budget_exceeded": "see actorpool budgets list; raise it with actorpool budgets set NAME",
    "rate_limited": "raise the limit in [limits], or the caller asks less often",
    "draining": "none: this process is ending, callers go to another",
}

_STOPPED: Final = {
    "crashed": "the error is the agent's: its turn failed, and it is started again",
    "abandoned": "the agent swallows cancellation: let asyncio.CancelledError pass",
    "failed": "the agent's open() failed: check what it connects to; it is tried again",
}


class Refusals:
    """Lines about refused turns, at most one per agent and reason in ten seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        # (agent, code) -> when the next line is due, and how many were refused since the last
        self._since: dict[tuple[str, str], tuple[float, int]] = {}

    def tell(self, notice: TurnRefusedNotice) -> None:
        """Log the refusal with those since the last line, or count it for the next one."""
        now = self._clock()
        key = (notice.agent, notice.code)
        due, count = self._since.get(key, (now, 0))
        if now < due:
            self._since[key] = (due, count + 1)
            return
        self._since[key] = (now + REFUSAL_INTERVAL_S, 0)
        _log.warning(
            "turns are refused",
            agent=notice.agent,
            reason=notice.code,
            tenant=notice.tenant,
            refused=count + 1,
            remedy=_REFUSED.get(notice.code, "the reason says what is wrong"),
        )


def _turn_repeated(notice: TurnRepeatedNotice) -> None:
    _log.warning(
        "turn is run again",
        agent=notice.agent,
        turn_id=notice.turn_id,
        attempt=notice.attempt,
        remedy="its actor crashed in the attempt before: see that error",
    )


def _actor_started(notice: ActorStartedNotice) -> None:
    _log.debug("actor started", agent=notice.agent, actor=notice.actor, start_s=notice.start_s)


def _actor_stopped(notice: ActorStoppedNotice) -> None:
    remedy = _STOPPED.get(notice.reason)
    if remedy is None:
        _log.debug("actor retired", agent=notice.agent, actor=notice.actor)
        return
    _log.warning(
        "actor " + ("failed to open" if notice.reason == "failed" else notice.reason),
        agent=notice.agent,
        actor=notice.actor,
        error=notice.error,
        remedy=remedy,
    )


def _agent_state(notice: AgentStateNotice) -> None:
    if notice.state == "degraded":
        _log.error(
            "agent is degraded: its turns are refused",
            agent=notice.agent,
            detail=notice.detail,
            remedy="repair what its actors fail of; it recovers by itself once one opens",
        )
    else:
        _log.info("agent is " + notice.state, agent=notice.agent, detail=notice.detail)


def _scaled(notice: ScaledNotice) -> None:
    _log.info("actors wanted", agent=notice.agent, before=notice.before, after=notice.after)


def _limit_changed(notice: LimitChangedNotice) -> None:
    fields = {
        "agent": notice.agent,
        "limit": notice.limit,
        "before": notice.before,
        "after": notice.after,
    }
    if notice.after < notice.before:
        remedy = "the provider is overloaded: raise your quota there, or the pool's wait grows"
        _log.warning("concurrency limit lowered", **fields, remedy=remedy)
    else:
        _log.debug("concurrency limit raised", **fields)


def _tasks_leaked(notice: TasksLeakedNotice) -> None:
    _log.warning(
        "turn left tasks behind; they were cancelled",
        agent=notice.agent,
        turn_id=notice.turn_id,
        tasks=notice.count,
        remedy="await what the agent starts, in an asyncio.TaskGroup say",
    )


TELL: Final[Mapping[type[Notice], Callable[[Any], None]]] = {
    TurnRepeatedNotice: _turn_repeated,
    ActorStartedNotice: _actor_started,
    ActorStoppedNotice: _actor_stopped,
    AgentStateNotice: _agent_state,
    ScaledNotice: _scaled,
    LimitChangedNotice: _limit_changed,
    TasksLeakedNotice: _tasks_leaked,
}
