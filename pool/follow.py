"""Sessions that are read here and written by other processes: their logs are kept up to date."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pool.errors import StoreUnavailable
from pool.events import START
from pool.order import Spawn
from pool.session import Session
from pool.store.base import SessionKey, Store

_log = structlog.get_logger("pool.follow")

# How many events are fetched at once.
_PAGE = 1_000
_SOON_S = 0.05
# How long to wait for a store that cannot be reached, or a session that is not there, in seconds.
_AGAIN_S = 1.0


class Followers:
    """Watches sessions that have readers here and whose lease is not here, in a shared store.

    A session is fetched once for all its readers.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        session: Callable[[SessionKey], Session | None],
        spawn: Spawn,
    ) -> None:
        self._name = name
        self._store = store
        self._session = session
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        # what is fetched now, and whether to look again after that
        self._fetching: dict[SessionKey, bool] = {}

    def check_soon(self, session: Session) -> None:
        """The same in a moment: most readers of a turn that has ended are about to leave."""
        if self._store.shared:
            self._loop.call_later(_SOON_S, self.check, session)

    def check(self, session: Session) -> None:
        """Begin to watch the session if that is needed; end it if nobody reads any more."""
        if not self._store.shared:
            return
        if session.readers and session.lease is None and not session.watching:
            session.watching = True
            self._fetch(session.key)
        elif session.watching and not session.readers:
            session.watching = False
            self._fetch(session.key)

    def more(self, key: SessionKey) -> None:
        """There may be more events in a session."""
        session = self._session(key)
        if session is not None and session.watching:
            self._fetch(key)

    def _fetch(self, key: SessionKey) -> None:
        if key in self._fetching:
            self._fetching[key] = True
            return
        self._fetching[key] = False
        self._spawn(self._fetch_all(key))

    async def _fetch_all(self, key: SessionKey) -> None:
        try:
            while True:
                self._fetching[key] = False
                # one thing at a time: a watch and its end do not overtake each other
                session = self._session(key)
                if session is not None and session.watching:
                    await self._catch_up(key, session)
                else:
                    await self._store.unwatch(key, self._name)
                if not self._fetching[key]:
                    return
        except StoreUnavailable as error:
            _log.warning("session cannot be followed now", session_id=key.id, error=error.code)
            self._loop.call_later(_AGAIN_S, self.more, key)
        finally:
            del self._fetching[key]

    async def _catch_up(self, key: SessionKey, session: Session) -> None:
        log, before = session.log, session.log.end
        session.looked_at = self._loop.time()
        end = await self._store.watch(key, self._name)
        if session.lease is not None or log.end != before:
            # it was held here meanwhile: what was answered is old
            return
        if end is None:
            # it was deleted, or the store has lost it: it may be made anew
            log.resume(START)
            self._loop.call_later(_AGAIN_S, self.more, key)
            return
        while log.end != end and (log.epoch <= end.epoch or log.seq > end.seq):
            before = log.end
            page = await self._store.events(key, before, _PAGE)
            if session.held or log.end != before:
                return
            if page.lost is not None:
                log.resume(page.lost)
            if page.events:
                log.follow(page.events)
            elif page.lost is None:
                # nothing was written since, by whoever holds it now
                log.epoch = max(log.epoch, end.epoch)
                return
