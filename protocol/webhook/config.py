"""What an operator says about webhooks."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.addresses import Network, read_networks

_PREFIX: Final = "whsec_"
# what the Standard Webhooks specification asks of a key
_KEY_BYTES: Final = range(24, 65)
_REMEDY: Final = (
    f"write {_PREFIX} and 24 to 64 random bytes in base64, as from: "
    f'echo "{_PREFIX}$(openssl rand -base64 32)"'
)


class WebhookConfig(Struct, frozen=True, kw_only=True):
    """How webhooks are signed, and where they may go.

    `secret`: signs them; without one there are none. `allow_private`: also post to addresses that
    are not public: all of them, or those of the networks listed. `allow_http`: also without TLS.
    """

    secret: str = ""
    allow_private: bool | tuple[str, ...] = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        if self.secret and not _is_secret(self.secret):
            raise ConfigError("secret", "...", _REMEDY)
        read_networks(self.allow_private)

    def __repr__(self) -> str:
        private = self.allow_private
        secret = "..." if self.secret else "none"
        return f"<WebhookConfig secret {secret}, private {private}, http {self.allow_http}>"

    @property
    def networks(self) -> Sequence[Network]:
        """The networks that webhooks may go to besides public addresses."""
        return read_networks(self.allow_private)


def _is_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return text.startswith(_PREFIX) and len(key) in _KEY_BYTES
