"""The server's options are checked once, with an error that names option, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from pool.errors import ConfigError
from protocol.config import ServerConfig


def test_the_defaults_are_valid() -> None:
    """No option must be given; by default the server is for this machine only."""
    assert ServerConfig().host == "127.0.0.1"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("host", ""),
        ("port", -1),
        ("port", 65_536),
        ("backlog", 0),
        ("max_connections", 0),
        ("max_body_bytes", 0),
        ("max_headers", 0),
        ("max_header_bytes", 0),
        ("max_behind_events", 0),
        ("sse_high_water_bytes", 0),
        ("body_timeout_s", 0.0),
        ("header_timeout_s", float("nan")),
        ("keepalive_s", -1.0),
        ("sse_heartbeat_s", 0.0),
        ("slow_reader_s", float("inf")),
        ("close_timeout_s", 0.0),
        ("flush_s", -0.1),
        ("cors_origins", ("chat.example",)),
        ("cors_origins", ("https://chat.example/",)),
        ("cors_origins", ("*",)),
        ("trusted_proxies", ("10.0.0.1/8",)),
        ("trusted_proxies", ("proxy.example",)),
    ],
)
def test_a_wrong_option_is_named(option: str, value: Any) -> None:
    """The operator reads which option is wrong, and what to write."""
    with pytest.raises(ConfigError) as caught:
        ServerConfig(**{option: value})
    assert caught.value.option == option
