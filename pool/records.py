"""What a pool knows of sessions and turns, asked and answered in a tenant's name.

What belongs to another tenant is not found, as if it were not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pool.config import AgentSpec, PoolConfig
from pool.errors import InvalidRequest, NotFound
from pool.guard.ledger import Ledger
from pool.guard.rates import RatedRequest
from pool.ids import Ids, check_id
from pool.store.base import Page, SessionKey, Store
from pool.turn import ANYONE, Message, Principal, SessionInfo, Turn
from pool.vetting import check_metadata

PAGE_MAX = 1_000


class Records:
    """Reads and keeps sessions; the part of a pool that runs nothing."""

    config: PoolConfig
    store: Store
    ledger: Ledger
    specs: Mapping[str, AgentSpec]
    _ids: Ids

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        agent: str | None = None,
        metadata: dict[str, Any] | None = None,
        ttl_s: float | None = None,
        principal: Principal = ANYONE,
        rated: RatedRequest | None = None,
    ) -> SessionInfo:
        """Make a session; `Conflict` if it exists, `TooLarge` if its metadata are. `agent` answers
        the turns that name none. It is a request like a turn: `RateLimited`; `rated` as for
        `accept`.
        """
        if ttl_s is not None and not ttl_s > 0:
            raise InvalidRequest("ttl_s must be above 0", field="ttl_s")
        if metadata:
            check_metadata(metadata, self.config)
        key = self._key(session_id or self._ids.session(), principal)
        await self.ledger.count_request(principal, rated)
        if agent is not None:
            self._check_agent(agent)
        info = SessionInfo(id=key.id, agent=agent, metadata=metadata or {}, ttl_s=ttl_s)
        return await self.store.create_session(key, info)

    async def session(self, session_id: str, *, principal: Principal = ANYONE) -> SessionInfo:
        """A session; `NotFound` if there is none."""
        info = await self.store.session(self._key(session_id, principal))
        if info is None:
            raise NotFound(f"there is no session {session_id}")
        return info

    async def sessions(
        self, after: str | None = None, limit: int = 100, *, principal: Principal = ANYONE
    ) -> Page[SessionInfo]:
        """A page of the tenant's sessions."""
        return await self.store.sessions(principal.tenant, after, _page(limit))

    async def delete_session(self, session_id: str, *, principal: Principal = ANYONE) -> None:
        """Forget a session; `SessionBusy` if it has an unfinished turn."""
        if not await self.store.delete_session(self._key(session_id, principal)):
            raise NotFound(f"there is no session {session_id}")

    async def fork_session(
        self,
        session_id: str,
        new_id: str | None = None,
        through_turn: str | None = None,
        *,
        principal: Principal = ANYONE,
        rated: RatedRequest | None = None,
    ) -> SessionInfo:
        """A new session with this one's transcript, up to and including a turn. It is a request, as
        for `create_session`.
        """
        if through_turn is not None:
            check_id(through_turn, "through_turn")
        key = self._key(session_id, principal)
        new = self._key(new_id or self._ids.session(), principal)
        await self.ledger.count_request(principal, rated)
        return await self.store.fork_session(key, new, through_turn)

    async def messages(
        self,
        session_id: str,
        after: str | None = None,
        limit: int = 100,
        *,
        principal: Principal = ANYONE,
    ) -> Page[Message]:
        """A page of the session's transcript, oldest first."""
        await self.session(session_id, principal=principal)
        return await self.store.messages(self._key(session_id, principal), after, _page(limit))

    async def turn(self, turn_id: str, *, principal: Principal = ANYONE) -> Turn:
        """A turn that is at rest; `NotFound` if there is none."""
        check_id(turn_id, "turn_id")
        turn = await self.store.turn(turn_id)
        if turn is None or turn.tenant != principal.tenant:
            raise NotFound(f"there is no turn {turn_id}")
        return turn

    def _check_agent(self, name: str) -> None:
        if name not in self.specs:
            raise NotFound(f"there is no agent {name}; there is: {', '.join(self.specs)}")

    def _key(self, session_id: str, principal: Principal) -> SessionKey:
        return SessionKey(principal.tenant, check_id(session_id, "session_id"))


def _page(limit: int) -> int:
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidRequest(f"limit must be 1 to {PAGE_MAX}", field="limit")
    return limit
