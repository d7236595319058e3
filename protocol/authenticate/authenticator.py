"""Asks callers who they are, and follows what becomes of the credentials that they showed."""

from __future__ import annotations

from collections.abc import Callable
from time import time

from aiohttp.web_request import BaseRequest

from pool.guard.api_key import is_key
from pool.guard.caller import OWNER, BadCredential, Caller
from pool.guard.keys import PREFIX, ApiKeys
from pool.guard.looking import Looking
from pool.store.cabinet import Cabinet
from protocol.authenticate.config import AuthConfig
from protocol.authenticate.credentials import shown
from protocol.authenticate.live import Live
from protocol.authenticate.tokens import TokenDoor, token_door
from protocol.problems import Unauthenticated


class Authenticator:
    """Knows who calls. What is open in the name of a credential is in `live`: it ends when the
    credential does.

    `ConfigError` if tokens are to be checked with a key that does not fit, or without the library.
    """

    def __init__(
        self, config: AuthConfig, cabinet: Cabinet, *, wall: Callable[[], float] = time
    ) -> None:
        self.config = config
        self.live = Live()
        self._open = config.open
        self._wall = wall
        self._keys = ApiKeys(cabinet, wall=wall) if config.with_keys else None
        self._tokens: TokenDoor | None = token_door(config.rules) if config.with_tokens else None
        self._looking = Looking(
            self.refresh, name="keys", away="it is not known which keys were withdrawn"
        )

    def __repr__(self) -> str:
        return f"<Authenticator {self.config.mode}, {self.live!r}>"

    async def caller(self, request: BaseRequest) -> Caller:
        """Who sends a request; `Unauthenticated`, or `StoreUnavailable` if that cannot be known."""
        if self._open:
            return OWNER
        text = shown(request)
        if self._keys is not None and text.startswith(PREFIX):
            caller = self._keys.remembered(text)
            if caller is not None:
                return caller
        return await self.caller_with(text)

    async def caller_with(self, text: str) -> Caller:
        """Who shows this key or token."""
        try:
            if text.startswith(PREFIX) and self._keys is not None:
                return await self._keys.verify(text)
            if self._tokens is not None:
                return await self._tokens.verify(text)
        except BadCredential as bad:
            raise Unauthenticated(str(bad)) from None
        raise Unauthenticated("this is no API key")

    async def check(self, caller: Caller) -> None:
        """`Unauthenticated` if what a caller showed before, perhaps elsewhere, does not count any
        more; `StoreUnavailable` if that cannot be known.
        """
        good = caller.expires_at is None or caller.expires_at > self._wall()
        if self._keys is not None and is_key(caller.credential):
            good = await self._keys.counts(caller.credential)
        if not good:
            raise Unauthenticated("the credentials were withdrawn, or have expired")

    async def start(self) -> None:
        """Learn the keys, then follow them. A store that is away is no reason not to start."""
        if not self._open:
            await self._looking.start()

    async def stop(self) -> None:
        """Follow no more. May be called twice."""
        await self._looking.stop()
        if self._tokens is not None:
            await self._tokens.close()

    async def refresh(self) -> None:
        """Follow the store, and end what is open with credentials that no longer count."""
        self.live.expire(self._wall())
        if self._keys is not None:
            withdrawn = await self._keys.refresh()
            if withdrawn:
                self.live.withdraw(frozenset(withdrawn))
