"""Tickets: how a browser, which cannot set headers on a WebSocket, says who it is.

They are kept in the store, so that a ticket of one process is good in every other one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from secrets import token_urlsafe
from time import time
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from pool.errors import RateLimited
from pool.guard.caller import Caller
from pool.store.cabinet import Cabinet, Document
from pool.store.filing import documents_of
from protocol.problems import Unauthenticated

KIND: Final = "ticket"
TTL_S: Final = 60.0
_BYTES: Final = 32
_ID_DIGITS: Final = 40
# How often, in seconds, it is looked which tickets were used elsewhere.
_LOOK_S: Final = 1.0


class _Ticket(Struct, frozen=True):
    """What is kept of a ticket. `expires_at` is in seconds since the epoch."""

    caller: Caller
    expires_at: float


class _Issued(NamedTuple):
    tenant: str
    expires_at: float


class Tickets:
    """Tickets of a store. Each is good once, for `ttl_s` seconds. A process issues only so many
    that nobody has used: `most`, and `most_per_tenant`.

    Kept by their hash: neither a log nor the store shows one that could be used.
    """

    def __init__(
        self,
        cabinet: Cabinet,
        *,
        wall: Callable[[], float] = time,
        ttl_s: float = TTL_S,
        most: int = 10_000,
        most_per_tenant: int = 1_000,
    ) -> None:
        self._cabinet = cabinet
        self._wall = wall
        self._ttl_s = ttl_s
        self._most = most
        self._most_per_tenant = most_per_tenant
        # issued here and, as far as is known here, not used
        self._issued: dict[str, _Issued] = {}
        self._of_tenant: Counter[str] = Counter()
        self._looked_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Tickets {len(self._issued)} of {self._most}>"

    async def issue(self, caller: Caller) -> str:
        """A new ticket; `RateLimited` if there are too many that nobody has used,
        `StoreUnavailable`.
        """
        tenant, now = caller.principal.tenant, self._wall()
        since_s = now - self._looked_at
        if since_s >= self._ttl_s or (self._full(tenant) and since_s >= _LOOK_S):
            await self._look(now)
        if self._full(tenant):
            raise RateLimited(
                "too many tickets were issued and not used; connect with those you have",
                retry_after_s=self._next_end_s(now),
            )
        ticket = token_urlsafe(_BYTES)
        place, expires_at = _id(ticket), now + self._ttl_s
        # counted before it is kept: those that come meanwhile find it
        self._issued[place] = _Issued(tenant, expires_at)
        self._of_tenant[tenant] += 1
        try:
            kept = msgspec.json.encode(_Ticket(caller, expires_at))
            await self._cabinet.put(KIND, [Document(place, kept)])
        except BaseException:
            self._forget(place)
            raise
        return ticket

    async def redeem(self, ticket: str) -> Caller:
        """Whose ticket it is; `Unauthenticated` if it is unknown, used or too old,
        `StoreUnavailable` if that cannot be known.
        """
        place = _id(ticket)
        data = await self._cabinet.get(KIND, place)
        # whoever removes it has it: two that come at once are not both let in
        if data is not None and await self._cabinet.remove(KIND, place):
            self._forget(place)
            found = _read(data)
            if found is not None and found.expires_at > self._wall():
                return found.caller
        raise Unauthenticated("the ticket is unknown, used or too old; ask for a new one")

    def _full(self, tenant: str) -> bool:
        return len(self._issued) >= self._most or self._of_tenant[tenant] >= self._most_per_tenant

    async def _look(self, now: float) -> None:
        """Learn which tickets were used elsewhere, and remove those that nobody used in time,
        whoever issued them.
        """
        self._looked_at = now
        before, there = tuple(self._issued), set()
        async for document in documents_of(self._cabinet, KIND):
            kept = _read(document.data)
            if kept is None or kept.expires_at <= now:
                await self._cabinet.remove(KIND, document.id)
            else:
                there.add(document.id)
        for place in before:
            if place not in there:
                self._forget(place)

    def _forget(self, place: str) -> None:
        issued = self._issued.pop(place, None)
        if issued is not None:
            self._of_tenant[issued.tenant] -= 1
            if not self._of_tenant[issued.tenant]:
                del self._of_tenant[issued.tenant]

    def _next_end_s(self, now: float) -> float:
        oldest = next(iter(self._issued.values()))
        return max(_LOOK_S, oldest.expires_at - now)


def _id(ticket: str) -> str:
    return sha256(ticket.encode(errors="replace")).hexdigest()[:_ID_DIGITS]


def _read(data: bytes) -> _Ticket | None:
    try:
        return msgspec.json.decode(data, type=_Ticket)
    except msgspec.DecodeError:
        # of another version: nobody can use it here
        return None
