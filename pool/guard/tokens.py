"""Tokens that an identity provider signed (JWT, RFC 7519), checked with PyJWT."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from time import time
from typing import Any, Final, NamedTuple, Protocol

import jwt
from jwt.algorithms import AllowedPublicKeys
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    MissingRequiredClaimError,
    PyJWTError,
)

from pool.errors import ConfigError
from pool.guard.caller import BadCredential, Caller
from pool.guard.token_rules import TokenRules, caller_of

_LONGEST: Final = 8_192
_REQUIRED: Final = ("exp", "aud", "iss", "sub")
# Of how many tokens it is remembered that they are good.
_GOOD_MAX: Final = 10_000
_KID: Final = re.compile(r"[!-~]{1,256}")
_KINDS: Final = {
    "HS": ("bytes",),
    "RS": ("RSAPublicKey",),
    "ES": ("EllipticCurvePublicKey", "ECPublicKey"),
    "Ed": ("Ed25519PublicKey", "Ed448PublicKey"),
}

# What somebody may be told of a token that is not good. A text of the library may quote the token.
_SAID: Final = (
    (ExpiredSignatureError, "the token has expired; sign in again"),
    (ImmatureSignatureError, "the token is not valid yet"),
    (InvalidAudienceError, "the token is not for this service (aud)"),
    (InvalidIssuerError, "the token is not of the issuer that is trusted here (iss)"),
    (MissingRequiredClaimError, f"the token must have the claims {', '.join(_REQUIRED)}"),
)
_BAD: Final = "the token is not good"


class VerifyingKey(Protocol):
    """A key and the algorithms that it may be used with."""

    @property
    def key(self) -> AllowedPublicKeys | bytes:
        """The key, as the library takes it."""

    @property
    def algorithms(self) -> Sequence[str]:
        """Those of the configuration that fit it."""


class KeySource(Protocol):
    """Where keys come from."""

    async def find(self, kid: str | None) -> VerifyingKey | None:
        """The key of this name (None: the only one); None if there is none."""

    async def close(self) -> None:
        """Let go of everything."""


class StaticKey:
    """The one key of the configuration."""

    def __init__(self, rules: TokenRules) -> None:
        self.algorithms: Sequence[str] = rules.algorithms
        self.key = _prepared(rules)

    def __repr__(self) -> str:
        return f"<StaticKey {', '.join(self.algorithms)}>"

    async def find(self, kid: str | None) -> VerifyingKey | None:
        """Itself: what the token calls it does not matter."""
        return self

    async def close(self) -> None:
        """There is nothing to let go of."""


class _Good(NamedTuple):
    """What a token said that was found good with a key."""

    kid: str | None
    key: VerifyingKey
    caller: Caller


class Tokens:
    """Checks tokens by the rules, with keys from the source. One that was found good is so until it
    ends, or its key is another.
    """

    def __init__(
        self,
        rules: TokenRules,
        keys: KeySource,
        *,
        wall: Callable[[], float] = time,
        remembered_max: int = _GOOD_MAX,
    ) -> None:
        self._rules = rules
        self._keys = keys
        self._wall = wall
        self._remembered_max = remembered_max
        # by their hash: a dump of the memory shows none that could be used
        self._good: dict[bytes, _Good] = {}

    def __repr__(self) -> str:
        return f"<Tokens {self._rules!r}>"

    async def verify(self, token: str) -> Caller:
        """Whom the token names; `BadCredential`, and what the source of keys raises."""
        if len(token) > _LONGEST:
            raise BadCredential(_BAD)
        digest = sha256(token.encode(errors="surrogatepass")).digest()
        good = self._good.get(digest)
        kid = _kid(token) if good is None else good.kid
        key = await self._keys.find(kid)
        if key is None:
            raise BadCredential("the token is signed with a key that is not known here")
        if good is not None and good.key is key and (good.caller.expires_at or 0.0) > self._wall():
            return good.caller
        claims = _read(lambda: self._decode(token, key))
        caller = caller_of(claims, self._rules)
        self._remember(digest, _Good(kid, key, caller))
        return caller

    async def close(self) -> None:
        """Let go of the source of keys."""
        await self._keys.close()

    def _remember(self, digest: bytes, good: _Good) -> None:
        if len(self._good) >= self._remembered_max:
            # the oldest goes first
            del self._good[next(iter(self._good))]
        self._good[digest] = good

    def _decode(self, token: str, key: VerifyingKey) -> dict[str, Any]:
        return jwt.decode(
            token,
            key.key,
            # of the configuration and the key; what the token says is only compared
            algorithms=list(key.algorithms),
            audience=self._rules.audience,
            issuer=self._rules.issuer,
            leeway=self._rules.leeway_s,
            options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
        )


def fits(key: object, algorithm: str) -> bool:
    """Whether a key is of the kind that an algorithm uses."""
    names = {kind.__name__ for kind in type(key).__mro__}
    return bool(names.intersection(_KINDS[algorithm[:2]]))


def _kid(token: str) -> str | None:
    kid = _read(lambda: jwt.get_unverified_header(token)).get("kid")
    if kid is None:
        return None
    if not isinstance(kid, str) or _KID.fullmatch(kid) is None:
        raise BadCredential(_BAD)
    return kid


def _read(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return read()
    except PyJWTError as error:
        said = next((text for kind, text in _SAID if isinstance(error, kind)), _BAD)
    except (ValueError, TypeError, OverflowError, RecursionError):
        # JSON that the library did not expect
        said = _BAD
    raise BadCredential(said)


def _prepared(rules: TokenRules) -> AllowedPublicKeys | bytes:
    algorithm = jwt.get_algorithm_by_name(rules.algorithms[0])
    try:
        key = algorithm.prepare_key(rules.key)
    except (PyJWTError, ValueError, TypeError):
        key = None
    if key is not None and algorithm.check_key_length(key) is not None:
        raise ConfigError("key", "...", "is too short: use 2048 bits or more")
    if key is None or not all(fits(key, name) for name in rules.algorithms):
        remedy = f"is no public key in PEM for {', '.join(rules.algorithms)}"
        raise ConfigError("key", "...", remedy)
    found: AllowedPublicKeys | bytes = key
    return found
