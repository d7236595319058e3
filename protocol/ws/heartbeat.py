"""Is the peer still there? One timer for all connections, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

# Pings are spread over the interval: all at once, 20,000 of them would hold up the loop.
_SLOTS: Final = 32
_MISSED_MAX: Final = 2


class Pulse:
    """What is known of one peer: was it heard since the last ping, and how many has it missed?"""

    __slots__ = ("_asked", "_heard", "_missed")

    def __init__(self) -> None:
        self._asked = False
        self._heard = False
        self._missed = 0

    def heard(self) -> None:
        """Something came from the peer."""
        self._heard = True

    def beat(self) -> bool:
        """An interval is over: True to ping the peer again, False if it is gone."""
        self._missed = self._missed + 1 if self._asked and not self._heard else 0
        self._asked = True
        self._heard = False
        return self._missed < _MISSED_MAX


class Beating(Protocol):
    """Something with a heartbeat."""

    def beat(self) -> None:
        """An interval is over."""


class Heartbeat:
    """Calls `beat` of each member once an interval, and `tick` between, while there are members."""

    def __init__(self, interval_s: float, tick: Callable[[], None]) -> None:
        self._pause_s = interval_s / _SLOTS
        self._tick = tick
        self._slots: tuple[set[Beating], ...] = tuple(set() for _ in range(_SLOTS))
        self._turn = 0
        self._members = 0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Heartbeat {self._members} members>"

    def add(self, member: Beating) -> int:
        """Take a member in; its first beat is an interval away. Returns its slot, for `remove`."""
        slot = self._turn
        self._slots[slot].add(member)
        self._members += 1
        if self._timer is None:
            self._arm()
        return slot

    def remove(self, member: Beating, slot: int) -> None:
        """Let a member go."""
        self._slots[slot].remove(member)
        self._members -= 1
        if not self._members and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._ring)

    def _ring(self) -> None:
        self._arm()
        self._turn = (self._turn + 1) % _SLOTS
        for member in tuple(self._slots[self._turn]):
            member.beat()
        self._tick()
