"""What makes a signed token good, and whom it names: configuration and claims. No cryptography."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.api_key import User
from pool.guard.caller import BadCredential, Caller, with_included
from pool.turn import Id, Principal

Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"
]
_HMAC: Final = "HS"
# RFC 7518, 3.2, asks for a key as long as the hash
_HMAC_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


class TokenRules(Struct, frozen=True, kw_only=True):
    """Which tokens are good.

    `algorithms`: those of one family, for they share a key. `key`: the public key as PEM, or for
    HS* the secret; or `jwks_url`, where the issuer publishes its keys. `audience`, `issuer`: what
    the token must say. `leeway_s`: how far clocks may differ.
    `tenant_claim`, `user_claim`, `roles_claim`: where the token says who is calling (dots lead into
    objects). `tenant`: everybody's, instead of a claim. `roles`: what a word of the roles' claim
    means here; a word that is not listed means nothing.
    """

    algorithms: tuple[Algorithm, ...] = ()
    key: str = ""
    jwks_url: str = ""
    audience: str = ""
    issuer: str = ""
    leeway_s: float = 30.0
    tenant_claim: str = "tenant"
    tenant: str = ""
    user_claim: str = "sub"
    roles_claim: str = "roles"
    roles: Mapping[str, Id] = {}

    def __post_init__(self) -> None:
        if bool(self.key) == bool(self.jwks_url):
            raise ConfigError("key", "...", "give a key or a jwks_url, and not both")
        self._check_algorithms()
        for name in ("audience", "issuer"):
            if not getattr(self, name):
                remedy = "say what the tokens must have there: any other token is refused"
                raise ConfigError(name, "", remedy)
        if not (isfinite(self.leeway_s) and 0 <= self.leeway_s <= 300):
            raise ConfigError("leeway_s", self.leeway_s, "write a number of seconds, 0 to 300")
        if self.jwks_url:
            self._check_url()

    def __repr__(self) -> str:
        return f"<TokenRules {', '.join(self.algorithms)} of {self.issuer}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # else tracebacks of rich have all fields, whatever __repr__ says
        return [("algorithms", self.algorithms), ("issuer", self.issuer)]

    @property
    def symmetric(self) -> bool:
        """Whether the key is a secret that signs as well."""
        return self.algorithms[0].startswith(_HMAC)

    def _check_algorithms(self) -> None:
        families = {name[:2] for name in self.algorithms}
        if not families:
            raise ConfigError("algorithms", (), f"list those of: {', '.join(get_args(Algorithm))}")
        if self.jwks_url:
            if _HMAC in families:
                remedy = "published keys are no secrets: list RS*, ES* or EdDSA only"
                raise ConfigError("algorithms", self.algorithms, remedy)
        elif len(families) > 1:
            remedy = "one key is of one family: list HS*, RS*, ES* or EdDSA only"
            raise ConfigError("algorithms", self.algorithms, remedy)
        if self.key and self.symmetric:
            least = max(_HMAC_BYTES[name] for name in self.algorithms)
            if len(self.key.encode()) < least:
                remedy = f"a secret for {', '.join(self.algorithms)} has {least} bytes or more"
                raise ConfigError("key", "...", remedy)
            if "-----BEGIN" in self.key:
                remedy = "a PEM is no secret: list RS*, ES* or EdDSA, or give a secret"
                raise ConfigError("key", "...", remedy)

    def _check_url(self) -> None:
        parts = urlsplit(self.jwks_url)
        local = parts.hostname in _LOCAL
        if not parts.hostname or parts.scheme not in (("http", "https") if local else ("https",)):
            remedy = "write https://issuer/...: whoever changes these keys on the way is anybody"
            raise ConfigError("jwks_url", self.jwks_url, remedy)


def caller_of(claims: Mapping[str, Any], rules: TokenRules) -> Caller:
    """Whom checked claims name; `BadCredential` if that is nobody."""
    tenant = rules.tenant or _claim(claims, rules.tenant_claim)
    user = _claim(claims, rules.user_claim)
    try:
        expires_at = float(claims["exp"]) + rules.leeway_s
    except OverflowError:
        raise BadCredential("the token's claim exp is no time") from None
    principal = Principal(
        _fit(tenant, Id, rules.tenant_claim),
        _fit(user, User, rules.user_claim),
        with_included(_roles(_claim(claims, rules.roles_claim), rules.roles)),
    )
    # a token cannot be withdrawn: all that matters later is when it ends
    return Caller(principal, f"jwt:{expires_at:.0f}", expires_at)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, or the one that its dots lead to; None if there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _fit(value: Any, kind: Any, claim: str) -> str:
    try:
        found: str = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise BadCredential(f"the token's claim {claim} is missing or malformed") from None
    return found


def _roles(value: Any, meaning: Mapping[str, str]) -> Sequence[str]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list):
        return ()
    return [meaning[word] for word in words if isinstance(word, str) and word in meaning]
