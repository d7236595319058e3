"""An actor's inbox: a control lane that goes first, and one turn."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Control(Enum):
    """What a supervisor tells an actor."""

    STOP = "stop"


class Mailbox(Generic[T]):
    """Bounded: it holds one turn. One reader, the actor. Putting never waits."""

    __slots__ = ("_controls", "_loop", "_turn", "_wake")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._controls: deque[Control] = deque()
        self._turn: T | None = None
        self._wake: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        turn = "empty" if self._turn is None else "1 turn"
        return f"<Mailbox [{len(self._controls)} controls, {turn}]>"

    @property
    def full(self) -> bool:
        """Whether a turn lies in it."""
        return self._turn is not None

    def put(self, turn: T) -> None:
        """Hand over a turn; `ValueError` if one is there: dispatch is late, one at a time."""
        if self._turn is not None:
            raise ValueError("the mailbox holds a turn already")
        self._turn = turn
        self._ring()

    def control(self, control: Control) -> None:
        """Tell the actor something that goes before any turn."""
        self._controls.append(control)
        self._ring()

    async def get(self) -> T | Control:
        """The next thing to do. A cancelled `get` loses nothing."""
        while True:
            if self._controls:
                return self._controls.popleft()
            if self._turn is not None:
                turn, self._turn = self._turn, None
                return turn
            self._wake = self._loop.create_future()
            try:
                await self._wake
            finally:
                self._wake = None

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
