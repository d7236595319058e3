"""Questions that are being answered in this process, so that equal ones cost one answer.

The first turn that asks leads; the others wait for it. If it is cancelled, or broke its actor, the
next of them leads. If it fails, or has an answer that is for itself alone (it called a tool, say),
all ask for themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from pool.live import LiveTurn

T = TypeVar("T")


class Questions(Generic[T]):
    """The questions that are being answered, by their keys."""

    def __init__(self) -> None:
        self._leads: dict[str, Lead[T]] = {}

    def __repr__(self) -> str:
        return f"<Questions [{len(self._leads)} being answered]>"

    async def join(self, key: str, turn: LiveTurn) -> Lead[T] | T | None:
        """The lead, if nobody has it; else, once there is one, the answer of the turn that leads.
        None: the turn is to ask for itself.
        """
        lead = self._leads.get(key)
        if lead is None:
            return self.begin(key, turn, deque())
        if turn.parent is not None:
            # another waits for this turn: were it to wait as well, that might go round in a circle
            return None
        return await lead.answer_for(turn)

    def begin(self, key: str, turn: LiveTurn, waiting: deque[Place[T]]) -> Lead[T]:
        """Let a turn lead those who wait."""
        lead = self._leads[key] = Lead(self, key, waiting)
        # a turn that is over leads nobody: its agent may be long in coming back from it, or it was
        # cancelled as it got the lead
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        over.add_done_callback(lambda _: lead.failed())
        turn.waiters.append(over)
        return lead

    def end(self, key: str) -> None:
        """Nobody answers it any more."""
        del self._leads[key]


class Lead(Generic[T]):
    """The place of the turn that answers for its equals. As `with lead`: left without an answer it
    is the next one's.
    """

    __slots__ = ("_key", "_left", "_questions", "_waiting")

    def __init__(self, questions: Questions[T], key: str, waiting: deque[Place[T]]) -> None:
        self._questions = questions
        self._key = key
        self._waiting = waiting
        self._left = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.failed()

    def answered(self, answer: T | None) -> None:
        """Give the answer to all who wait (None: there is none for others)."""
        if self._leave():
            self._questions.end(self._key)
            for place in self._waiting:
                if not place.answer.done():
                    place.answer.set_result(answer)

    def failed(self) -> None:
        """Let the next one lead. Does nothing once the lead was left."""
        if not self._leave():
            return
        while self._waiting:
            turn, answer = self._waiting.popleft()
            if not answer.done():
                answer.set_result(self._questions.begin(self._key, turn, self._waiting))
                return
        self._questions.end(self._key)

    async def answer_for(self, turn: LiveTurn) -> Lead[T] | T | None:
        """Wait behind it: for the answer, or for the lead."""
        answer: asyncio.Future[Lead[T] | T | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(Place(turn, answer))
        return await answer

    def _leave(self) -> bool:
        left, self._left = self._left, True
        return not left


class Place(NamedTuple, Generic[T]):
    """A turn that waits."""

    turn: LiveTurn
    answer: asyncio.Future[Lead[T] | T | None]
