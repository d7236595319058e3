from __future__ import annotations

import pytest

from pool.errors import ConfigError
from protocol.ws.config import WsConfig


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("heartbeat_s", 0),
        ("heartbeat_s", float("inf")),
        ("hello_timeout_s", -1),
        ("close_grace_s", float("nan")),
        ("max_frame_bytes", 0),
        ("window", 0),
        ("high_water_events", 0),
        ("high_water_bytes", -5),
        ("max_sessions", 0),
        ("max_connections", 0),
    ],
)
def test_an_option_out_of_range_is_named(option, value):
    """The error says which option it is, and what to write."""
    with pytest.raises(ConfigError) as caught:
        WsConfig(**{option: value})
    assert caught.value.option == option
    assert "write" in str(caught.value)
