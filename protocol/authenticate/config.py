"""How callers say who they are: frozen, checked once. Nothing optional is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.token_rules import Algorithm, TokenRules
from pool.turn import Id

Mode = Literal["open", "keys", "jwt", "both"]

PREFIX: Final = "jwt_"
MAY_BE_PUBLIC: Final = ("/health", "/ready", "/metrics", "/openapi.json")


_SAID: Final[Mapping[Mode, str]] = {
    "open": "nobody is asked who they are: whoever can reach it is admin of tenant default",
    "keys": "callers show an API key: actorpool keys create",
    "jwt": "callers show a signed token",
    "both": "callers show an API key (actorpool keys create) or a signed token",
}


class AuthConfig(Struct, frozen=True, kw_only=True):
    """Who may call.

    `mode`: `open` asks nobody, `keys` takes API keys of the store, `jwt` tokens that somebody else
    signed, `both` either. `public`: what may be read without saying who one is. The options that
    begin with `jwt_` are those of `pool.guard.token_rules.TokenRules`.
    """

    mode: Mode = "open"
    public: tuple[str, ...] = ("/health", "/ready", "/openapi.json")

    jwt_algorithms: tuple[Algorithm, ...] = ()
    jwt_key: str = ""
    jwt_jwks_url: str = ""
    jwt_audience: str = ""
    jwt_issuer: str = ""
    jwt_leeway_s: float = 30.0
    jwt_tenant_claim: str = "tenant"
    jwt_tenant: str = ""
    jwt_user_claim: str = "sub"
    jwt_roles_claim: str = "roles"
    jwt_roles: Mapping[str, Id] = {}

    def __post_init__(self) -> None:
        for path in self.public:
            if path not in MAY_BE_PUBLIC:
                remedy = f"only these can be public: {', '.join(MAY_BE_PUBLIC)}"
                raise ConfigError("public", path, remedy)
        if self.with_tokens:
            _ = self.rules
        elif self.jwt_key or self.jwt_jwks_url:
            remedy = "nobody is asked for a token: write jwt or both, or leave out what is for them"
            raise ConfigError("mode", self.mode, remedy)

    def __repr__(self) -> str:
        return f"<AuthConfig {self.mode}, public {', '.join(self.public) or 'nothing'}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # else tracebacks of rich have all fields, whatever __repr__ says
        return [("mode", self.mode), ("public", self.public)]

    @property
    def open(self) -> bool:
        """Whether nobody is asked who they are."""
        return self.mode == "open"

    @property
    def with_keys(self) -> bool:
        """Whether API keys count."""
        return self.mode in ("keys", "both")

    @property
    def with_tokens(self) -> bool:
        """Whether signed tokens count."""
        return self.mode in ("jwt", "both")

    @property
    def rules(self) -> TokenRules:
        """Which tokens are good."""
        options = {
            name: getattr(self, PREFIX + name)
            for name in TokenRules.__struct_fields__
            if name != "key"
        }
        try:
            return TokenRules(key=self.jwt_key, **options)
        except ConfigError as mistake:
            raise ConfigError(PREFIX + mistake.option, mistake.value, mistake.remedy) from None


def said(config: AuthConfig) -> str:
    """Who may call, for people."""
    return _SAID[config.mode]
