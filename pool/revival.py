"""Turns that other processes accepted or began: they take their place here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING

from pool.config import PoolConfig
from pool.dispatcher import Dispatcher
from pool.errors import AgentFailed
from pool.live import MAKES_WAY, LiveTurn, Stop
from pool.session import Session
from pool.turn import TurnError

if TYPE_CHECKING:
    from pool.turns import Turns


# How long a suspect has a process for itself, in seconds, before the next one may start.
_APART_S = 5.0


class Revival:
    """Brings turns into a session that is held here."""

    def __init__(
        self, turns: Turns, dispatchers: Mapping[str, Dispatcher], config: PoolConfig
    ) -> None:
        # whether another process serves an agent
        self.served_elsewhere: Callable[[str], bool] = _nobody_else
        # of those that may have broken a process: the one that runs, and those that wait for that
        self._apart: LiveTurn | None = None
        self._suspects: deque[LiveTurn] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._turns = turns
        self._dispatchers = dispatchers
        self._config = config

    def adopt(self, session: Session, turn: LiveTurn) -> None:
        """A turn that another process accepted for us."""
        turn.session = session
        if self.foreign(turn.record.agent):
            # while others roll out a new agent: they take it when this session is given back
            session.foreign = True
            if not session.turns:
                self._turns.moving.hand_back_soon(session)
            return
        self._turns.tell_moved(turn, "adopted")
        if self._serve(turn):
            self._turns.add(turn)
        else:
            session.join(turn)
            self._turns.watch_over(turn)

    def foreign(self, agent: str) -> bool:
        """Whether others serve the agent, and this process does not."""
        return agent not in self._dispatchers and self.served_elsewhere(agent)

    def restore(self, session: Session, turns: list[LiveTurn], alive: Container[str]) -> None:
        """Turns that another process left behind go on, or begin anew, in their order. `alive`: the
        processes that take part now.
        """
        for turn in turns:
            turn.session = session
            session.accepted = max(session.accepted, turn.number)
            self._turns.tell_moved(turn, "taken_over")
            self._turns.watch_over(turn)
        session.arriving = True
        session.restore(turns)
        for turn in turns:
            if self._serve(turn):
                self._turns.tell_place(turn)
        for turn in turns:
            if turn.record.at and turn.record.at not in alive:
                # whoever it was for was connected to a process that is gone
                self._turns.stopping.stop(turn, Stop("cancelled"))

    def begin(self, session: Session) -> None:
        """What its inbox says was done: the turn whose turn it is may go."""
        session.arriving = False
        self._turns.after_closing(session)
        first = session.current
        if first is not None and first.phase in ("queued", "waiting") and not first.moved:
            self.begin_again(first)
        elif first is None:
            self._turns.sessions.settle(session)

    def begin_again(self, turn: LiveTurn) -> None:
        """It is the turn of one that had begun elsewhere, or is first in its session."""
        record = turn.record
        if turn.stop is not None:
            return
        if record.state == "running" and record.attempt >= self._config.max_attempts:
            detail = f"the turn broke its process or its actor {record.attempt} times"
            self._turns.crashes.bury(turn, detail, "its process ended")
        elif record.attempt and (urgent := _urgent(turn)) is not None:
            self._turns.stopping.stop(turn, MAKES_WAY[urgent.record.request.if_busy])
        elif turn.phase == "waiting":
            self._turns.approvals.lapse_later(turn)
            self._turns.go_on(turn)
        elif self._turns.closing is None:
            self._start_again(turn)

    def left(self, suspect: LiveTurn) -> None:
        """A suspect has left, or did no harm so far: the next one may go."""
        if self._apart is not suspect:
            return
        self._apart = None
        self.close()
        while self._suspects:
            turn = self._suspects.popleft()
            if turn.phase == "queued" and not turn.moved and turn.stop is None:
                self._start_again(turn)
                return

    def close(self) -> None:
        """Let nobody go for having done no harm."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_again(self, turn: LiveTurn) -> None:
        # What runs when a process breaks is not all to blame for it. Before they are dead letters
        # the suspects run one by one, so that the one that breaks it is alone.
        record = turn.record
        turn.suspect = record.state == "running" and record.attempt == self._config.max_attempts - 1
        if turn.suspect and self._apart is not None:
            self._suspects.append(turn)
            return
        if turn.suspect:
            self._apart = turn
            # one that runs for longer did no harm so far
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_APART_S, self.left, turn)
        self._turns.requeue(turn)
        self._dispatchers[record.agent].ready(turn)

    def _serve(self, turn: LiveTurn) -> bool:
        dispatcher = self._dispatchers.get(turn.record.agent)
        if dispatcher is None:
            error = TurnError(AgentFailed.code, f"agent {turn.record.agent} is not served any more")
            # it has no place anywhere, and needs none to end
            turn.phase = "waiting"
            self._turns.stopping.stop(turn, Stop("failed", error=error))
        elif turn.phase == "queued":
            dispatcher.place(turn.tenant)
        return dispatcher is not None


def _urgent(turn: LiveTurn) -> LiveTurn | None:
    """The turn that was accepted to run at once, instead of this one."""
    later = (other for other in turn.session.line if other.number > turn.number)
    return next((other for other in later if other.makes_way), None)


def _nobody_else(agent: str) -> bool:
    return False
