"""Which URLs may be connected to, as far as that can be told before anything is looked up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from yarl import URL

from pool.guard.addresses import Network, may_connect

# Below this port live services that nobody means by a URL, but for these.
_UNPRIVILEGED: Final = 1024
_WEB_PORTS: Final = frozenset({80, 443})
# Names as they are looked up: labels of letters, digits, - and _, the last one no number.
_is_name = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?\.?$",
    re.IGNORECASE,
).match
_is_ipv4 = re.compile(r"(0|[1-9]\d{0,2})(\.(0|[1-9]\d{0,2})){3}$", re.ASCII).match


class RefusedUrl(ValueError):
    """What is wrong with a URL, as the rest of a sentence. The URL itself is not repeated."""


def read_url(text: str, networks: Sequence[Network], *, allow_http: bool) -> URL:
    """The URL; `RefusedUrl` if it is none, or leads to an address that is neither public nor in
    `networks`. Where a name leads is seen when it is looked up: `pool/guard/connector.py`.
    """
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise RefusedUrl("has characters that a URL cannot have: encode them")
    try:
        url = URL(text)
        host, port = url.raw_host or "", url.port
    except ValueError:
        raise RefusedUrl("is no URL") from None
    if url.scheme not in ("http", "https") or not host or port is None:
        raise RefusedUrl("must be an absolute URL that begins with https://")
    if url.scheme == "http" and not allow_http:
        raise RefusedUrl("must begin with https://")
    if url.user is not None or url.password is not None:
        raise RefusedUrl("must not have a user or a password: they would be kept and shown")
    if port < _UNPRIVILEGED and port not in _WEB_PORTS:
        raise RefusedUrl("must have port 80, 443, or one above 1023")
    _check_host(host, networks)
    return url


def _check_host(host: str, networks: Sequence[Network]) -> None:
    if ":" in host or _is_ipv4(host):
        if not may_connect(host, networks):
            raise RefusedUrl("leads to an address that this server does not connect to")
    elif not _is_name(host):
        # also 2130706433, 0x7f.1, 0177.0.0.1: ways to write an address that hide what it is
        raise RefusedUrl("must name a host, or have an address in its usual form")
