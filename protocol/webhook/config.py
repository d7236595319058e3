"""What an operator says about webhooks."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Final

from msgspec import Struct

from pool.errors import ConfigError
from protocol.webhook.addresses import EVERYWHERE, Network

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
        for network in self._listed:
            try:
                ip_network(network)
            except ValueError:
                remedy = "write networks as 10.1.0.0/16 or fd00::/8, the part after the prefix zero"
                raise ConfigError("allow_private", network, remedy) from None

    def __repr__(self) -> str:
        private = self.allow_private
        secret = "..." if self.secret else "none"
        return f"<WebhookConfig secret {secret}, private {private}, http {self.allow_http}>"

    @property
    def networks(self) -> Sequence[Network]:
        """The networks that webhooks may go to besides public addresses."""
        if self.allow_private is True:
            return EVERYWHERE
        return tuple(map(ip_network, self._listed))

    @property
    def _listed(self) -> tuple[str, ...]:
        return self.allow_private if isinstance(self.allow_private, tuple) else ()


def _is_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return text.startswith(_PREFIX) and len(key) in _KEY_BYTES
