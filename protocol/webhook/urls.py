"""Which URLs a webhook may have, as far as that can be told before anything is looked up."""

from __future__ import annotations

import re
from typing import Final

from yarl import URL

from pool.errors import InvalidRequest
from protocol.webhook.addresses import may_connect
from protocol.webhook.config import WebhookConfig

# Below this port live services that are no receivers of webhooks, but for these.
_UNPRIVILEGED: Final = 1024
_WEB_PORTS: Final = frozenset({80, 443})
# Names as they are looked up: labels of letters, digits, - and _, the last one no number.
_is_name = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?\.?$",
    re.IGNORECASE,
).match
_is_ipv4 = re.compile(r"(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$", re.ASCII).match


def checked(text: str, config: WebhookConfig) -> URL:
    """The URL of a webhook; `InvalidRequest` says why the server would not post to it."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise _refused("has characters that a URL cannot have: encode them")
    try:
        url = URL(text)
        host, port = url.raw_host or "", url.port
    except ValueError:
        raise _refused("is no URL") from None
    if url.scheme not in ("http", "https") or not host or port is None:
        raise _refused("must be an absolute URL that begins with https://")
    if url.scheme == "http" and not config.allow_http:
        raise _refused("must begin with https://")
    if url.user is not None or url.password is not None:
        raise _refused("must not have a user or a password: they would be kept with the turn")
    if port < _UNPRIVILEGED and port not in _WEB_PORTS:
        raise _refused("must have port 80, 443, or one above 1023")
    _check_host(host, config)
    return url


def _check_host(host: str, config: WebhookConfig) -> None:
    if ":" in host or _is_ipv4(host):
        if not may_connect(host, config.networks):
            raise _refused("leads to an address that this server does not post to")
    elif not _is_name(host):
        # also 2130706433, 0x7f.1, 0177.0.0.1: ways to write an address that hide what it is
        raise _refused("must name a host, or have an address in its usual form")


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"the webhook's URL {reason}", field="webhook.url")
