"""Tickets: how a browser, which cannot set headers on a WebSocket, says who it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from secrets import token_urlsafe
from typing import Final, NamedTuple

from pool.errors import RateLimited
from pool.guard.caller import Caller
from protocol.problems import Unauthenticated

TTL_S: Final = 60.0
_BYTES: Final = 32


class _Issued(NamedTuple):
    caller: Caller
    expires_at: float


class Tickets:
    """Tickets that were issued and not used. Each is good once, for `ttl_s` seconds.

    Kept by their hash: neither a log nor a dump of the memory shows one that could be used.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        ttl_s: float = TTL_S,
        most: int = 10_000,
        most_per_tenant: int = 1_000,
    ) -> None:
        self._clock = clock
        self._ttl_s = ttl_s
        self._most = most
        self._most_per_tenant = most_per_tenant
        # in the order of their issue, which is that of their end
        self._issued: dict[bytes, _Issued] = {}
        self._of_tenant: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Tickets {len(self._issued)} of {self._most}>"

    def issue(self, caller: Caller) -> str:
        """A new ticket; `RateLimited` if there are too many that nobody has used."""
        self._forget_expired()
        tenant = caller.principal.tenant
        if len(self._issued) >= self._most or self._of_tenant[tenant] >= self._most_per_tenant:
            raise RateLimited(
                "too many tickets were issued and not used; connect with those you have",
                retry_after_s=self._next_end_s(),
            )
        ticket = token_urlsafe(_BYTES)
        self._issued[_digest(ticket)] = _Issued(caller, self._clock() + self._ttl_s)
        self._of_tenant[tenant] += 1
        return ticket

    def redeem(self, ticket: str) -> Caller:
        """Whose ticket it is; `Unauthenticated` if it is unknown, used or too old."""
        self._forget_expired()
        issued = self._issued.pop(_digest(ticket), None)
        if issued is None:
            raise Unauthenticated("the ticket is unknown, used or too old; ask for a new one")
        self._count_down(issued.caller.principal.tenant)
        return issued.caller

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._issued:
            digest = next(iter(self._issued))
            issued = self._issued[digest]
            if issued.expires_at > now:
                return
            del self._issued[digest]
            self._count_down(issued.caller.principal.tenant)

    def _count_down(self, tenant: str) -> None:
        self._of_tenant[tenant] -= 1
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]

    def _next_end_s(self) -> float:
        oldest = next(iter(self._issued.values()))
        return max(0.0, oldest.expires_at - self._clock())


def _digest(ticket: str) -> bytes:
    return sha256(ticket.encode(errors="replace")).digest()
