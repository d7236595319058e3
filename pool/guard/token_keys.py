"""The keys that a token issuer publishes (JWKS, RFC 7517): fetched, kept, and fetched anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiohttp
import jwt
import msgspec
import structlog
from jwt.algorithms import AllowedPublicKeys
from jwt.exceptions import PyJWTError

from pool.errors import StoreUnavailable
from pool.guard.token_rules import TokenRules
from pool.guard.tokens import StaticKey, Tokens, VerifyingKey, fits

_TIMEOUT_S: Final = 5.0
_LARGEST_BYTES: Final = 2**20
_MOST_KEYS: Final = 100
# An unknown name is no reason to fetch more often, in seconds.
_REFRESH_S: Final = 60.0
# While there are none they are tried for as often, in seconds.
_FIRST_S: Final = 1.0
# Keys are fetched anew when they are this old, while the old ones go on counting.
_STALE_S: Final = 300.0
# A key that the issuer no longer publishes counts no longer than this, unless it cannot be asked.
_OLDEST_S: Final = 600.0
# Nor then longer than this: whoever has a withdrawn key may be who keeps us from asking.
_LAST_S: Final = 86_400.0

_log = structlog.get_logger("pool.tokens")


def token_checker(rules: TokenRules) -> Tokens:
    """Checks tokens by these rules; `ConfigError` if the key does not fit."""
    if rules.jwks_url:
        return Tokens(rules, PublishedKeys(rules.jwks_url, rules.algorithms))
    return Tokens(rules, StaticKey(rules))


class PublishedKey(NamedTuple):
    """One key of the issuer, with those of the configured algorithms that it may be used with."""

    key: AllowedPublicKeys | bytes
    algorithms: Sequence[str]


class PublishedKeys:
    """The keys at a URL of the configuration. A token only names one of them: its `kid` is looked
    up here, and is never an address.
    """

    def __init__(
        self, url: str, algorithms: Sequence[str], *, clock: Callable[[], float] | None = None
    ) -> None:
        self._url = url
        self._algorithms = algorithms
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._keys: Mapping[str, PublishedKey] | None = None
        self._fetched_at = 0.0
        # tried, whatever became of it
        self._tried_at = float("-inf")
        # the last try was in vain
        self._failing = False
        self._fetching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<PublishedKeys {len(self._keys or ())} at {self._url}>"

    async def find(self, kid: str | None) -> VerifyingKey | None:
        """The key of this name; `StoreUnavailable` if no keys could be had yet."""
        await self._freshen()
        found = self._named(kid)
        if found is None and kid is not None:
            await self._fetch()
            found = self._named(kid)
        if self._keys is None:
            raise StoreUnavailable(
                "the keys that tokens are checked with cannot be had; try again",
                retry_after_s=_FIRST_S,
            )
        return found

    async def close(self) -> None:
        """Fetch no more."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _named(self, kid: str | None) -> PublishedKey | None:
        keys = self._keys or {}
        if kid is None:
            # a token without a name is of the only key, if there is only one
            return next(iter(keys.values())) if len(keys) == 1 else None
        return keys.get(kid)

    async def _freshen(self) -> None:
        """See to it that the keys are not too old; wait for that only if they must not be used."""
        age_s = self._clock() - self._fetched_at
        if age_s > _LAST_S:
            self._keys = None
        if self._keys is None or (age_s > _OLDEST_S and not self._failing):
            await self._fetch()
        elif age_s > _STALE_S:
            self._begin()

    async def _fetch(self) -> None:
        fetching = self._begin()
        if fetching is not None:
            # many may wait for it, and any of them may leave
            await asyncio.shield(fetching)

    def _begin(self) -> asyncio.Task[None] | None:
        """The fetch that is under way, perhaps from now on; None if it is too soon for one."""
        if self._fetching is None:
            pause_s = _REFRESH_S if self._keys is not None else _FIRST_S
            if self._clock() - self._tried_at < pause_s:
                return None
            self._tried_at = self._clock()
            self._fetching = asyncio.get_running_loop().create_task(self._take())
        return self._fetching

    async def _take(self) -> None:
        try:
            keys = _keys(await self._get(), self._algorithms)
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError, ValueError) as why:
            self._failing = True
            _log.warning("keys of the token issuer cannot be had", error=type(why).__name__)
        else:
            self._keys, self._fetched_at, self._failing = keys, self._clock(), False
        finally:
            self._fetching = None

    async def _get(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(self._url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ValueError(f"answered {response.status}")
            data = await response.content.read(_LARGEST_BYTES + 1)
            while len(data) <= _LARGEST_BYTES and (more := await response.content.readany()):
                data += more
            if len(data) > _LARGEST_BYTES:
                raise ValueError("too large")
            return data


def _keys(data: bytes, algorithms: Sequence[str]) -> Mapping[str, PublishedKey]:
    """The keys of a JWKS that can be used here, by their names."""
    found = msgspec.json.decode(data)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no JWKS")
    keys: dict[str, PublishedKey] = {}
    for place, each in enumerate(listed[:_MOST_KEYS]):
        key = _key(each, algorithms)
        if key is not None:
            name = each.get("kid")
            # one without a name may still be the only one
            keys[name if isinstance(name, str) else f" {place}"] = key
    return keys


def _key(each: Any, algorithms: Sequence[str]) -> PublishedKey | None:
    # A key for encryption, or of a kind that no configured algorithm has, is none of ours: nor is
    # a secret that is published, for published keys are never for HS*.
    if not isinstance(each, dict) or each.get("use", "sig") != "sig":
        return None
    try:
        key = jwt.PyJWK(each).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    named = each.get("alg")
    usable = [name for name in algorithms if fits(key, name) and named in (None, name)]
    return PublishedKey(key, usable) if usable else None
