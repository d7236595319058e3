"""API keys: made once, kept by their hash, looked up in a copy that follows the store."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from hashlib import sha256
from hmac import compare_digest
from secrets import token_hex, token_urlsafe
from time import time
from typing import Final

import msgspec

from pool.errors import InvalidRequest
from pool.guard.api_key import KIND, ApiKey, Made, checked_key, credential_of, read_key
from pool.guard.caller import BadCredential, Caller, with_included
from pool.ids import check_id
from pool.store.cabinet import Cabinet, Document
from pool.store.filing import documents_of

PREFIX: Final = "ap_"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_KEY_ID: Final = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")
_LONGEST: Final = 128
# A hundred years: what lasts longer is for ever.
_EXPIRES_MAX_S: Final = 100 * 365.25 * 86_400
# An id that the store did not know is not asked for again so soon, in seconds.
_UNKNOWN_S: Final = 5.0
_MOST_UNKNOWN: Final = 10_000
# So many ids that nobody knows are asked for in a second. A new key is found without being asked
# for when the copy is refreshed: whoever guesses costs the store nothing more.
_MOST_ASKED: Final = 50
_UNKNOWN: Final = "the API key is unknown, withdrawn or mistyped"


class ApiKeys:
    """The keys of a store.

    `refresh`, called about once a second, follows what other processes make and withdraw. Until
    then a key that this process has never seen is looked up in the store.
    """

    def __init__(self, cabinet: Cabinet, *, wall: Callable[[], float] = time) -> None:
        self._cabinet = cabinet
        self._wall = wall
        self._known: dict[str, ApiKey] = {}
        # who calls with a text that was found good, by its hash: as long as what is known is so
        self._good: dict[bytes, Caller] = {}
        # good here before they were withdrawn here, and not told yet
        self._withdrawn: list[str] = []
        self._changes = -1
        # ids that the store does not know -> until when that is believed
        self._unknown: dict[str, float] = {}
        # ids that the store is being asked for
        self._asking: dict[str, asyncio.Task[ApiKey | None]] = {}
        self._asked = 0
        self._asked_in = 0.0

    def __repr__(self) -> str:
        return f"<ApiKeys {len(self._known)} known, {len(self._unknown)} refused>"

    # --- what an operator does

    async def create(
        self,
        *,
        tenant: str = "default",
        user: str = "",
        roles: Collection[str] = (),
        name: str = "",
        expires_in_s: float | None = None,
    ) -> Made:
        """Make a key; without a `user` it is its own. `InvalidRequest` says what is wrong."""
        if expires_in_s is not None and not 0 < expires_in_s <= _EXPIRES_MAX_S:
            raise InvalidRequest(
                "a key counts for more than 0 seconds and at most 100 years: leave it out for ever",
                field="expires",
            )
        now = self._wall()
        key_id, secret = token_hex(_ID_BYTES), token_urlsafe(_SECRET_BYTES)
        key = checked_key(
            ApiKey(
                id=key_id,
                digest=_digest(secret),
                tenant=tenant,
                user=user or f"key-{key_id}",
                roles=with_included(roles),
                name=name,
                created_at=now,
                expires_at=None if expires_in_s is None else now + expires_in_s,
            )
        )
        await self._cabinet.put(KIND, [Document(key_id, msgspec.json.encode(key))])
        return Made(key, f"{PREFIX}{key_id}_{secret}")

    async def revoke(self, key_id: str) -> bool:
        """Withdraw a key; False if there is none of this id."""
        removed = await self._cabinet.remove(KIND, check_id(key_id, "key"))
        self._good.clear()
        if self._known.pop(key_id, None) is not None:
            self._withdrawn.append(key_id)
        return removed

    async def list(self) -> Sequence[ApiKey]:
        """All keys, in the order of their making."""
        found = [key async for key in self._all()]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    # --- what a server does

    def remembered(self, text: str) -> Caller | None:
        """Who calls with a key that was found good before, and still is as far as is known here;
        None: only `verify` can tell.
        """
        caller = self._good.get(_digest(text))
        if caller is None or caller.expires_at is None or caller.expires_at > self._wall():
            return caller
        return None

    async def verify(self, text: str) -> Caller:
        """Who calls with this key; `BadCredential`, `StoreUnavailable`."""
        key_id, underscore, secret = text.removeprefix(PREFIX).partition("_")
        well_formed = text.startswith(PREFIX) and text.isascii() and len(text) <= _LONGEST
        if not (well_formed and underscore and _KEY_ID.fullmatch(key_id)):
            raise BadCredential("this is no API key")
        key = self._known.get(key_id)
        if key is None:
            key = await self._ask(key_id)
        if key is None or not compare_digest(key.digest, _digest(secret)):
            raise BadCredential(_UNKNOWN)
        if key.expired(self._wall()):
            raise BadCredential("the API key has expired; ask for a new one")
        caller = key.caller
        # as `revoke`, or a list that was read meanwhile, has left it
        if self._known.get(key_id) is key:
            self._good[_digest(text)] = caller
        return caller

    async def counts(self, credential: str) -> bool:
        """Whether a credential of a caller is still good, as far as is known here; one that was
        never seen here is looked up. `StoreUnavailable`.
        """
        key_id = credential.removeprefix(f"{KIND}:")
        key = self._known.get(key_id) or await self._ask(key_id)
        return key is not None and not key.expired(self._wall())

    async def refresh(self) -> Collection[str]:
        """Follow the store; the credentials that were good here and are withdrawn."""
        changes = await self._cabinet.changes(KIND)
        if changes == self._changes:
            return ()
        before = dict(self._known)
        fresh = await self._fresh(before)
        # found while the list was read, which may be older: the next look, for `changes` is, tells
        late = {
            each: key
            for each, key in self._known.items()
            if each not in before and each not in fresh
        }
        gone = [
            each
            for each, key in self._known.items()
            # the same object, mostly: that is soon told
            if each not in late and (found := fresh.get(each)) is not key and found != key
        ]
        self._known, self._changes = fresh | late, changes
        for each in self._withdrawn:
            # the list may be older than that, too
            self._known.pop(each, None)
        gone += self._withdrawn
        self._withdrawn.clear()
        self._unknown.clear()
        self._good.clear()
        return [credential_of(key_id) for key_id in gone]

    async def _fresh(self, known: Mapping[str, ApiKey]) -> dict[str, ApiKey]:
        """All keys by their ids; what is as it was known is the same object, and soon compared."""
        fresh: dict[str, ApiKey] = {}
        async for key in self._all():
            before = known.get(key.id)
            fresh[key.id] = before if before == key else key
        return fresh

    async def _all(self) -> AsyncGenerator[ApiKey, None]:
        async for document in documents_of(self._cabinet, KIND):
            key = read_key(document)
            if key is not None:
                yield key

    async def _ask(self, key_id: str) -> ApiKey | None:
        now = self._wall()
        if self._unknown.get(key_id, 0.0) > now:
            return None
        asking = self._asking.get(key_id)
        if asking is None:
            if not self._may_ask(now):
                return None
            asking = asyncio.get_running_loop().create_task(self._look_up(key_id, now))
            self._asking[key_id] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key_id))
        # who asks for the same one at once has the same answer, and any of them may leave
        return await asyncio.shield(asking)

    async def _look_up(self, key_id: str, now: float) -> ApiKey | None:
        changes = self._changes
        data = await self._cabinet.get(KIND, key_id)
        key = None if data is None else read_key(Document(key_id, data))
        if key is None:
            self._believe_unknown(key_id, now)
            return None
        if self._changes == changes:
            self._known[key_id] = key
        # else it may have been withdrawn since it was read: the newer copy knows
        return self._known.get(key_id)

    def _may_ask(self, now: float) -> bool:
        if not 0 <= now - self._asked_in < 1.0:
            self._asked, self._asked_in = 0, now
        self._asked += 1
        return self._asked <= _MOST_ASKED

    def _believe_unknown(self, key_id: str, now: float) -> None:
        if len(self._unknown) >= _MOST_UNKNOWN:
            # the oldest ends first
            del self._unknown[next(iter(self._unknown))]
        self._unknown[key_id] = now + _UNKNOWN_S


def _digest(text: str) -> bytes:
    # whatever somebody sends
    return sha256(text.encode(errors="surrogatepass")).digest()
