"""Where signed tokens are checked, if they are: the library is imported when it is needed."""

from __future__ import annotations

from typing import Protocol

from pool.errors import ConfigError
from pool.guard.caller import Caller
from pool.guard.token_rules import TokenRules


class TokenDoor(Protocol):
    """Says whom a token names."""

    async def verify(self, token: str) -> Caller:
        """Whom it names; `BadCredential`, `StoreUnavailable`."""

    async def close(self) -> None:
        """Let go of everything."""


def token_door(rules: TokenRules) -> TokenDoor:
    """One for these rules; `ConfigError` if the key does not fit, or the library is not there."""
    try:
        from pool.guard.token_keys import token_checker
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "pool":
            raise
        remedy = 'tokens need another package: pip install "actorpool[jwt]"'
        raise ConfigError("auth.mode", "jwt", remedy) from None
    try:
        return token_checker(rules)
    except ConfigError as mistake:
        raise ConfigError(f"auth.jwt_{mistake.option}", mistake.value, mistake.remedy) from None
