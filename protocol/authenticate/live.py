"""What is open in the name of a credential, so that it can be ended with it."""

from __future__ import annotations

from typing import Protocol

from pool.guard.caller import Caller


class Withdrawable(Protocol):
    """Something that a caller has open."""

    def withdraw(self) -> None:
        """End: what the caller showed counts no more."""


class _Group:
    __slots__ = ("expires_at", "things")

    def __init__(self, expires_at: float | None) -> None:
        self.expires_at = expires_at
        # by their identity: a request of aiohttp has no hash
        self.things: dict[int, Withdrawable] = {}


class Live:
    """Connections and requests, by the credential that opened them. What needs none is not here."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    def __repr__(self) -> str:
        return f"<Live {sum(len(group.things) for group in self._groups.values())} open>"

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, caller: Caller, thing: Withdrawable) -> None:
        """The caller has opened something."""
        if not caller.credential:
            return
        group = self._groups.get(caller.credential)
        if group is None:
            group = self._groups[caller.credential] = _Group(caller.expires_at)
        group.things[id(thing)] = thing

    def remove(self, caller: Caller, thing: Withdrawable) -> None:
        """It has ended by itself."""
        group = self._groups.get(caller.credential)
        if group is not None:
            group.things.pop(id(thing), None)
            if not group.things:
                del self._groups[caller.credential]

    def withdraw(self, credential: str) -> None:
        """End everything that is open with a credential."""
        group = self._groups.pop(credential, None)
        for thing in tuple(group.things.values()) if group is not None else ():
            thing.withdraw()

    def expire(self, now: float) -> None:
        """End what is open with credentials whose time is over (`now`: seconds since the epoch)."""
        over = [
            credential
            for credential, group in self._groups.items()
            if group.expires_at is not None and group.expires_at <= now
        ]
        for credential in over:
            self.withdraw(credential)
