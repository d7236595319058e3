"""An API key as it is kept: everything but its secret."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import msgspec
import structlog
from msgspec import Meta, Struct

from pool.errors import InvalidRequest
from pool.guard.caller import Caller
from pool.store.cabinet import Document
from pool.turn import Id, Principal

KIND: Final = "key"

_log = structlog.get_logger("pool.keys")

User = Annotated[str, Meta(pattern=r"^[!-~]{1,128}$(?!\n)")]
Name = Annotated[str, Meta(max_length=128)]
_ID: Final = "1 to 64 letters, digits, _ and -"
_FORMS: Final = {"user": "1 to 128 visible characters", "name": "up to 128 characters"}
_WORDS: Final = {"roles": "role"}


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

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # else tracebacks of rich have all fields, whatever __repr__ says
        return [("id", self.id), ("tenant", self.tenant)]

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


def read_key(document: Document) -> ApiKey | None:
    """The key in a document; None if it cannot be read: it counts no more, and others still do."""
    try:
        return msgspec.json.decode(document.data, type=ApiKey)
    except msgspec.DecodeError:
        _log.warning(
            "a key in the store cannot be read, and does not count",
            key=document.id,
            remedy="a newer version may have made it: update this process",
        )
        return None


def checked_key(key: ApiKey) -> ApiKey:
    """The key, if it can be one; `InvalidRequest`."""
    try:
        return msgspec.convert(msgspec.to_builtins(key), ApiKey)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].partition("[")[0].rstrip("`") or "key"
        raise InvalidRequest(
            f"a key cannot have this {_WORDS.get(field, field)}: write {_FORMS.get(field, _ID)}",
            field=field,
        ) from None
