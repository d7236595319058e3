"""The server's configuration: frozen, checked once, every option with its unit in its name."""

from __future__ import annotations

from ipaddress import ip_network
from math import isfinite
from typing import Final

from msgspec import Struct

from pool.errors import ConfigError

_SECONDS: Final = (
    "body_timeout_s",
    "header_timeout_s",
    "keepalive_s",
    "sse_heartbeat_s",
    "slow_reader_s",
    "close_timeout_s",
)
_COUNTS: Final = (
    "max_body_bytes",
    "max_header_bytes",
    "max_headers",
    "max_connections",
    "sse_high_water_bytes",
    "max_behind_events",
)


class ServerConfig(Struct, frozen=True, kw_only=True):
    """How the server listens and what it lets its callers do.

    `port` 0 takes a free one. A reader of events is cut off that takes nothing for `slow_reader_s`
    or is then more than `max_behind_events` behind; it can resume from its cursor.
    """

    host: str = "127.0.0.1"
    # listen beyond this machine although nobody is asked who they are
    insecure: bool = False
    port: int = 8080
    # how many connections may wait to be accepted
    backlog: int = 1_024
    max_connections: int = 20_000

    # requests
    max_body_bytes: int = 2**20
    body_timeout_s: float = 10.0
    # one header, and the request line
    max_header_bytes: int = 8_190
    max_headers: int = 100
    header_timeout_s: float = 10.0
    keepalive_s: float = 75.0
    # whose pages may call (CORS) and open a WebSocket, beside our own: "https://chat.example"
    cors_origins: tuple[str, ...] = ()
    # whose X-Forwarded-For and X-Forwarded-Proto are believed: "10.0.0.0/8"
    trusted_proxies: tuple[str, ...] = ()

    # readers of events
    sse_heartbeat_s: float = 15.0
    # the shortest time between two writes to one reader
    flush_s: float = 0.005
    # bytes unsent before nothing more is written to a reader
    sse_high_water_bytes: int = 256 * 1024
    slow_reader_s: float = 30.0
    max_behind_events: int = 50_000

    # how long answers that are being sent may take when the server closes
    close_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if not self.host:
            raise ConfigError("host", self.host, "write an address or a name, such as 127.0.0.1")
        if not 0 <= self.port <= 65_535:
            raise ConfigError("port", self.port, "write 1 to 65535, or 0 for any free port")
        if self.backlog < 1:
            raise ConfigError("backlog", self.backlog, "write a number of at least 1")
        for name in _SECONDS:
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ConfigError(name, value, "write a number of seconds above 0")
        if not (isfinite(self.flush_s) and self.flush_s >= 0):
            raise ConfigError("flush_s", self.flush_s, "write a number of seconds, 0 for no pause")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "write a number of at least 1")
        for origin in self.cors_origins:
            if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
                remedy = "write scheme, host and port only: https://chat.example"
                raise ConfigError("cors_origins", origin, remedy)
        for network in self.trusted_proxies:
            _check_network(network)


def _check_network(network: str) -> None:
    try:
        ip_network(network)
    except ValueError:
        remedy = "write networks as 10.1.0.0/16 or ::1/128, the part after the prefix zero"
        raise ConfigError("trusted_proxies", network, remedy) from None
