"""How the WebSocket door behaves: frozen, checked once, every option with its unit in its name."""

from __future__ import annotations

from math import isfinite

from msgspec import Struct
from msgspec.structs import fields

from pool.errors import ConfigError


class WsConfig(Struct, frozen=True, kw_only=True):
    """The options of the WebSocket door. Origins and `flush_s` are the server's own options."""

    # the server pings this often; two pings without an answer end the connection
    heartbeat_s: float = 30.0
    # the first frame must be there by then
    hello_timeout_s: float = 10.0
    # how long a peer has to answer a close, and to take what was sent before it
    close_grace_s: float = 5.0
    max_frame_bytes: int = 2**20
    # events a session may have sent and not acknowledged
    window: int = 256
    # a connection that falls behind further than this is closed; it can resume
    high_water_events: int = 10_000
    high_water_bytes: int = 4 * 2**20
    # sessions one connection may carry
    max_sessions: int = 1_000
    max_connections: int = 20_000
    # the same for one tenant
    max_connections_per_tenant: int = 20_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_s"):
                if not (isfinite(value) and value > 0):
                    raise ConfigError(field.name, value, "write a number of seconds above 0")
            elif value < 1:
                raise ConfigError(field.name, value, "write a whole number of at least 1")
