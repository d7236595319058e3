"""Ids: how they look, and how a turn's is made so that it leads to its session's partition."""

from __future__ import annotations

import re
import secrets
from hashlib import sha256
from zlib import crc32

from pool.errors import InvalidRequest
from pool.store.base import SessionKey
from pool.turn import ID_PATTERN

# Sessions are spread over so many partitions; all keys of one partition live together in a store.
PARTITIONS = 64
PARTITION_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_matches = re.compile(ID_PATTERN).search


def check_id(text: object, field: str) -> str:
    """The id, if it is one; `InvalidRequest` naming the field if not."""
    if not isinstance(text, str) or _matches(text) is None:
        raise InvalidRequest(f"{field} must be 1 to 64 of A-Z a-z 0-9 _ -", field=field)
    return text


def partition(key: SessionKey) -> int:
    """The session's partition, from tenant and id."""
    return crc32(f"{key.tenant}/{key.id}".encode()) % PARTITIONS


def session_of_key(tenant: str, idempotency_key: str) -> str:
    """The session of a request that names none but has an idempotency key: `k` and the first 40 hex
    digits of SHA-256 over the tenant, a newline and the key, in UTF-8.
    """
    return "k" + sha256(f"{tenant}\n{idempotency_key}".encode()).hexdigest()[:40]


class Ids:
    """Makes ids that no other process makes: a random part of this one's, and a count."""

    def __init__(self) -> None:
        self._mine = secrets.token_urlsafe(9).replace("-", "a").replace("_", "b")
        self._count = 0
        self._random = b""
        self._used = 0

    def turn(self, key: SessionKey) -> str:
        """A new turn's id; its first character is the session's partition."""
        self._count += 1
        return f"{PARTITION_DIGITS[partition(key)]}{self._mine}{self._count:x}"

    def session(self) -> str:
        """A new session's id, that cannot be guessed."""
        if len(self._random) <= self._used:
            # one draw for many ids: asking the system for each would cost more than the turn
            self._random, self._used = secrets.token_bytes(12 * 256), 0
        drawn = self._random[self._used : self._used + 12]
        self._used += 12
        return f"s{drawn.hex()}"
