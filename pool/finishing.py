"""What an agent's outcome means for its turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pool.agent import TurnEnd
from pool.dispatcher import Dispatcher
from pool.errors import LimitExceeded
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
        turns, record = self._turns, turn.record
        dispatcher = self._dispatchers[record.agent]
        if turn.stop is None:
            # while it still holds its permit: whether the limit is in use counts
            dispatcher.learn(end)
        dispatcher.released(turn, turns.clock() - turn.started_at)
        if dispatcher.queue.slots and dispatcher.supervisor.idle:
            # the permit is free; its own actor is busy until the end is stored
            dispatcher.pump()
        if turn.stop is not None:
            await turns.end_early(turn)
            return
        if isinstance(end, Exception):
            await turns.ending.end(turn, "failed", error=recorded(end))
            return
        change = None
        if end.state is not None or end.append is not None:
            try:
                change = self._change(end, state_format)
            except LimitExceeded as error:
                await turns.ending.end(turn, "failed", error=recorded(error))
                return
        if end.status == "paused":
            await turns.pause(turn, change)
            return
        if end.output and not turn.texts:
            self._say(turn, end.output)
        if end.marks:
            record.marks = end.marks
        if end.status == "limit":
            record.stop_reason = "limit"
        await turns.ending.end(turn, "completed", change=change)

    def _change(self, end: TurnEnd, state_format: str) -> StateChange:
        data = end.state if end.state is not None else end.append or b""
        self._turns.check_state(data)
        return StateChange(state_format, data, append=end.state is None)

    def _say(self, turn: LiveTurn, text: str) -> None:
        """An answer that was not streamed is one delta."""
        text, _ = writable(text)
        turn.texts.append(text)
        turn.first_text_at = self._turns.clock()
        record = turn.record
        turn.session.log.add(TextDelta(text), record.id, record.session_id)
