"""API keys: made once, kept by their hash, looked up in a copy that follows the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from hmac import compare_digest
from math import isfinite
from secrets import token_hex, token_urlsafe
from time import time
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from pool.errors import InvalidRequest
from pool.guard.caller import BadCredential, Caller, with_included
from pool.ids import check_id
from pool.store.cabinet import Cabinet, Document
from pool.turn import Id, Principal

PREFIX: Final = "ap_"
KIND: Final = "key"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_KEY_ID: Final = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")
_LONGEST: Final = 128
_PAGE: Final = 1_000
# An id that the store did not know is not asked for again so soon, in seconds.
_UNKNOWN_S: Final = 5.0
_MOST_UNKNOWN: Final = 10_000
# So many ids that nobody knows are asked for in a second. A new key is found without being asked
# for when the copy is refreshed: whoever guesses costs the store nothing more.
_MOST_ASKED: Final = 50
_UNKNOWN: Final = "the API key is unknown, withdrawn or mistyped"

User = Annotated[str, Meta(pattern=r"^[!-~]{1,128}$(?!\n)")]
Name = Annotated[str, Meta(max_length=128)]


class ApiKey(Struct, frozen=True, kw_only=True):
    """A key as it is kept: everything but its secret. Times are seconds since the epoch."""

    id: Id
    digest: bytes
    tenant: Id
    user: User
    roles: tuple[Id, ...]
    name: Name = ""
    created_at: float
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"<ApiKey {self.id} of {self.tenant}>"

    @property
    def caller(self) -> Caller:
        """Who calls with it."""
        principal = Principal(self.tenant, self.user, self.roles)
        return Caller(principal, credential_of(self.id), self.expires_at)

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


class Made(NamedTuple):
    """A new key, and the only copy of the text that its owner sends."""

    key: ApiKey
    text: str


def credential_of(key_id: str) -> str:
    """What a key is called where it may be read."""
    return f"{KIND}:{key_id}"


def is_key(credential: str) -> bool:
    """Whether a caller showed a key."""
    return credential.startswith(f"{KIND}:")


class ApiKeys:
    """The keys of a store.

    `refresh`, called about once a second, follows what other processes make and withdraw. Until
    then a key that this process has never seen is looked up in the store.
    """

    def __init__(self, cabinet: Cabinet, *, wall: Callable[[], float] = time) -> None:
        self._cabinet = cabinet
        self._wall = wall
        self._known: dict[str, ApiKey] = {}
        # good here before they were withdrawn here, and not told yet
        self._withdrawn: list[str] = []
        self._changes = -1
        # ids that the store does not know -> until when that is believed
        self._unknown: dict[str, float] = {}
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
        if expires_in_s is not None and not (isfinite(expires_in_s) and expires_in_s > 0):
            raise InvalidRequest("a key counts for more than 0 seconds", field="expires")
        now = self._wall()
        key_id, secret = token_hex(_ID_BYTES), token_urlsafe(_SECRET_BYTES)
        key = _checked(
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
        if self._known.pop(key_id, None) is not None:
            self._withdrawn.append(key_id)
        return removed

    async def list(self) -> Sequence[ApiKey]:
        """All keys, in the order of their making."""
        found: list[ApiKey] = []
        after: str | None = None
        while True:
            documents, after = await self._cabinet.documents(KIND, after, _PAGE)
            found += [msgspec.json.decode(each.data, type=ApiKey) for each in documents]
            if after is None:
                return sorted(found, key=lambda key: (key.created_at, key.id))

    # --- what a server does

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
        return key.caller

    def counts(self, credential: str) -> bool:
        """Whether a credential of a caller is, as far as is known here, still good."""
        key = self._known.get(credential.removeprefix(f"{KIND}:"))
        return key is not None and not key.expired(self._wall())

    async def refresh(self) -> Collection[str]:
        """Follow the store; the credentials that were good here and are withdrawn."""
        changes = await self._cabinet.changes(KIND)
        if changes == self._changes:
            return ()
        fresh = {key.id: key for key in await self.list()}
        gone = [key.id for key in self._known.values() if fresh.get(key.id) != key]
        gone += self._withdrawn
        self._withdrawn.clear()
        self._known, self._changes = fresh, changes
        self._unknown.clear()
        return [credential_of(key_id) for key_id in gone]

    async def _ask(self, key_id: str) -> ApiKey | None:
        now = self._wall()
        if self._unknown.get(key_id, 0.0) > now or not self._may_ask(now):
            return None
        # before the answer: who asks for the same one at once does not ask the store as well
        self._believe_unknown(key_id, now)
        changes = self._changes
        try:
            data = await self._cabinet.get(KIND, key_id)
        except BaseException:
            self._unknown.pop(key_id, None)
            raise
        if data is None:
            return None
        self._unknown.pop(key_id, None)
        if self._changes == changes:
            self._known[key_id] = msgspec.json.decode(data, type=ApiKey)
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


def _checked(key: ApiKey) -> ApiKey:
    try:
        return msgspec.convert(msgspec.to_builtins(key), ApiKey)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"a key cannot be made so: {error}") from None


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
