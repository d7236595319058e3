"""Whose turn it is that makes the event loop stand still."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from pool.live import LiveTurn
from pool.observer import LoopBlockedNotice, Observers

_log = structlog.get_logger("pool.blame")


class Blame:
    """What the watchdog reports to, from its own thread, while the loop stands still."""

    def __init__(
        self,
        live: Mapping[str, LiveTurn],
        observers: Observers,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._live = live
        self._observers = observers
        self._loop = loop

    def __call__(self, task: asyncio.Task[Any] | None, blocked_s: float, where: str) -> None:
        """Say who it is at once; observers hear of it when the loop goes on."""
        turn = self._turn_of(task)
        agent = turn.record.agent if turn else "none"
        turn_id = turn.id if turn else ""
        _log.error(
            "event loop blocked",
            agent=agent,
            turn_id=turn_id,
            blocked_s=round(blocked_s, 3),
            where=where,
            remedy="await instead of blocking, or give the agent as a synchronous function: "
            "it gets a thread",
        )
        if self._observers:
            notice = LoopBlockedNotice(agent, turn_id, blocked_s, where)
            self._loop.call_soon_threadsafe(self._observers.notice, notice)

    def _turn_of(self, task: asyncio.Task[Any] | None) -> LiveTurn | None:
        # the loop stands still, so nothing changes under this walk
        for turn in list(self._live.values()):
            actor = turn.actor
            mine = actor is not None and actor.turn is turn and actor.task is task
            if task is not None and (mine or task in (turn.tasks or ())):
                return turn
        return None
