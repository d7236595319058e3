"""What is open in the name of a credential, so that it can be ended with it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Protocol

from pool.guard.caller import Caller


class Withdrawable(Protocol):
    """Something that a caller has open."""

    def withdraw(self) -> None:
        """End: what the caller showed counts no more."""


class Live:
    """Connections and requests, by who opened them. What needs no credential is not here."""

    def __init__(self) -> None:
        # by the identity of what is open: a request of aiohttp has no hash
        self._open: dict[int, tuple[Caller, Withdrawable]] = {}

    def __repr__(self) -> str:
        return f"<Live {len(self)} open>"

    def __len__(self) -> int:
        return len(self._open)

    def add(self, caller: Caller, thing: Withdrawable) -> None:
        """The caller has opened something."""
        if caller.credential:
            self._open[id(thing)] = caller, thing

    def remove(self, thing: Withdrawable) -> None:
        """It has ended by itself."""
        self._open.pop(id(thing), None)

    def withdraw(self, credentials: Container[str]) -> None:
        """End everything that is open with one of these credentials."""
        self._end([thing for who, thing in self._open.values() if who.credential in credentials])

    def expire(self, now: float) -> None:
        """End what is open with credentials whose time is over (`now`: seconds since the epoch)."""
        self._end(
            [
                thing
                for who, thing in self._open.values()
                if who.expires_at is not None and who.expires_at <= now
            ]
        )

    def _end(self, things: Sequence[Withdrawable]) -> None:
        for thing in things:
            self.remove(thing)
            thing.withdraw()
