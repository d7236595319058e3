"""What an agent's outcome means for its turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool.agent import TurnEnd
from pool.dispatcher import Dispatcher
from pool.errors import AgentFailed, LimitExceeded
from pool.events import TextDelta
from pool.live import LiveTurn
from pool.outcome import recorded
from pool.store.base import StateChange
from pool.text import writable

if TYPE_CHECKING:
    from pool.turns import Turns


class Finishing:
    """Ends turns as their agents say, or lets them pause."""

    def __init__(self, turns: Turns, dispatchers: Mapping[str, Dispatcher]) -> None:
        self._turns = turns
        self._dispatchers = dispatchers

    async def finish(self, turn: LiveTurn, end: TurnEnd | Exception, state_format: str) -> None:
        """The agent is through: end the turn, or let it pause, as the agent said."""
        if turn.phase != "running":
            return
        dispatcher = self._dispatchers[turn.record.agent]
        if turn.stop is None:
            # while it still holds its permit: whether the limit is in use counts
            dispatcher.learn(end)
        dispatcher.released(turn, self._turns.clock() - turn.started_at)
        if not dispatcher.queue.empty and dispatcher.supervisor.idle:
            # the permit is free; its own actor is busy until the end is stored
            dispatcher.pump()
        if turn.stop is not None:
            await self._turns.end_early(turn)
        elif isinstance(end, Exception):
            await self._turns.ending.end(turn, "failed", error=recorded(end))
        else:
            change = self._change(end, state_format)
            if isinstance(change, AgentFailed):
                await self._turns.ending.end(turn, "failed", error=recorded(change))
                return
            if end.status == "paused":
                await self._turns.pause(turn, change)
                return
            if end.output and not turn.texts:
                self._say(turn, end.output)
            turn.record.marks = end.marks
            if end.status == "limit":
                turn.record.stop_reason = "limit"
            await self._turns.ending.end(turn, "completed", change=change)

    def _change(self, end: TurnEnd, state_format: str) -> StateChange | AgentFailed | None:
        if end.state is None and end.append is None:
            return None
        data = end.state if end.state is not None else end.append or b""
        try:
            self._turns.check_state(data)
        except LimitExceeded as error:
            return error
        return StateChange(state_format, data, append=end.state is None)

    def _say(self, turn: LiveTurn, text: str) -> None:
        """An answer that was not streamed is one delta."""
        text, _ = writable(text)
        turn.texts.append(text)
        turn.first_text_at = self._turns.clock()
        turn.session.log.add(TextDelta(text), turn.record.id, turn.record.session_id)
