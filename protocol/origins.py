"""Where requests may come from: pages of which origins (CORS, WebSockets), and under which names.

A browser sends requests for any page it shows. What it tells about the page is `Origin`; a page
that has pointed a name of its own at this machine (DNS rebinding) shows in `Host`.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs
from aiohttp.web_request import BaseRequest

from pool.errors import ConfigError, Forbidden
from protocol.config import ServerConfig
from protocol.http.reply import Headers
from protocol.proxies import Proxies

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_USUAL: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_VARY: Final = ("Vary", "Origin")
# No Allow-Credentials: callers say who they are in a header of their own, never by cookie.
_EXPOSED: Final = (
    "Access-Control-Expose-Headers",
    "Location, Retry-After, RateLimit, RateLimit-Policy, X-Request-ID, Preference-Applied",
)
_PREFLIGHT: Final = (
    ("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE"),
    (
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, X-API-Key",
    ),
    ("Access-Control-Max-Age", "600"),
)


class Origins:
    """The rules of one server. `open_`: nobody is asked who they are there."""

    def __init__(self, config: ServerConfig, *, open_: bool, proxies: Proxies) -> None:
        # as the answer names them: not as the request does
        self._allowed = {origin.lower(): origin for origin in config.cors_origins}
        self._open = open_
        self._local_only = open_ and is_loopback(config.host) and not config.insecure
        # what an answer says to those that are no allowed page
        self._usual: Headers = (_VARY,) if self._allowed else ()
        # the last name that was found to be this machine's
        self._local_name = "localhost"
        self._proxies = proxies

    def check(self, request: BaseRequest) -> None:
        """`Forbidden` where nobody is asked who they are, and a strange page asks in the name of
        whoever looks at it.
        """
        if not self._open:
            return
        headers = request.headers
        if self._local_only:
            host = headers.get(hdrs.HOST)
            if host is not None and host != self._local_name:
                self._check_name(host)
            if (
                hdrs.X_FORWARDED_FOR in headers
                or "X-Real-IP" in headers
                or hdrs.FORWARDED in headers
            ):
                # nobody on this machine itself sends what proxies say of whom they ask for
                raise Forbidden(
                    "this server is for this machine only, and a proxy asks it for others: its "
                    "operator may have callers say who they are, or add --insecure"
                )
        if hdrs.ORIGIN in headers:
            self.check_page(request)

    def check_page(self, request: BaseRequest) -> None:
        """`Forbidden` for a page that is neither ours nor allowed. Programs send no Origin."""
        origins = request.headers.getall(hdrs.ORIGIN, ())
        if not origins:
            return
        origin = origins[0].lower()
        if len(origins) > 1 or not (origin in self._allowed or self._ours(request, origin)):
            raise Forbidden(
                "pages of this origin may not connect; add it to cors_origins if it may"
            )

    def headers(self, request: BaseRequest) -> Headers:
        """What an answer says to the browser of an allowed page."""
        allowed = self._allowed_by(request) if hdrs.ORIGIN in request.headers else None
        if allowed is None:
            return self._usual
        return (("Access-Control-Allow-Origin", allowed), _EXPOSED, _VARY)

    def preflight(self, request: BaseRequest) -> Headers | None:
        """What OPTIONS is answered with to a browser that asks whether a page may; None if that is
        not the question, or it may not.
        """
        asks = "Access-Control-Request-Method" in request.headers
        return _PREFLIGHT if asks and self._allowed_by(request) is not None else None

    def _check_name(self, host: str) -> None:
        if not _is_local_name(host):
            raise Forbidden(
                "this server is for this machine only: call it by localhost or 127.0.0.1 (its "
                "operator may have callers say who they are, or add --insecure)"
            )
        self._local_name = host

    def _allowed_by(self, request: BaseRequest) -> str | None:
        origins = request.headers.getall(hdrs.ORIGIN, ())
        return self._allowed.get(origins[0].lower()) if len(origins) == 1 else None

    def _ours(self, request: BaseRequest, origin: str) -> bool:
        scheme = self._proxies.scheme(request)
        if scheme is not None and not origin.startswith(f"{scheme}://"):
            return False
        return same_host(origin, request.headers.get("Host", ""))


def same_host(origin: str, host: str) -> bool:
    """Whether an origin is that of the host which was called; its scheme's port may be left out."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    port = _DEFAULT_PORTS.get(parts.scheme)
    # "null" has neither
    if port is None or not parts.netloc:
        return False
    return parts.netloc.removesuffix(port) == host.lower().removesuffix(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_reach(config: ServerConfig, *, open_: bool, option: str = "server.host") -> None:
    """`ConfigError` for a server that asks nobody and that others could reach, unless its operator
    said twice that this is meant. `option`: what the host is called where it was given.
    """
    if open_ and not config.insecure and not is_loopback(config.host):
        raise ConfigError(
            option,
            config.host,
            "beyond this machine anybody could run agents at your cost, for nobody is asked who "
            'they are: have them asked ([auth] mode = "keys"), or add --insecure',
        )


def _is_local_name(host: str) -> bool:
    """Whether a Host header names this machine by what can mean no other one."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name in _USUAL:
        return True
    name = name.strip("[]").lower().removesuffix(".")
    return is_loopback(name) or name.endswith(".localhost")
