from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from protocol.proxies import Proxies


class Transport:
    """A connection from an address."""

    def __init__(self, address):
        self._address = address

    def get_extra_info(self, name, default=None):
        return (self._address, 1234) if name == "peername" and self._address else default


def request(peer, **headers):
    """A request that came from an address."""
    found = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request("GET", "/", headers=found, transport=Transport(peer))


TRUSTED = Proxies(("10.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, garbage", "10.0.0.1"),
        ("10.0.0.1", "garbage, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("fd00::1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        (None, "198.51.100.7", "unknown"),
        ("10.0.0.1", "198.51.100.7:123", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8::7]:123", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "198.51.100.7:1, 10.0.0.2:2", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7:x", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7:", "10.0.0.1"),
        ("10.0.0.1", "[2001:db8::7", "10.0.0.1"),
        ("10.0.0.1", "2001:db8::7]:1", "10.0.0.1"),
        ("10.0.0.1", "[]:1", "10.0.0.1"),
    ],
)
def test_the_client_is_the_nearest_that_is_no_trusted_proxy(peer, said, client):
    """What anybody may write into the header counts from trusted proxies only."""
    headers = {} if said is None else {"X_Forwarded_For": said}
    assert TRUSTED.client(request(peer, **headers)) == client


@pytest.mark.parametrize(
    ("peer", "said", "scheme"),
    [
        ("10.0.0.1", "https", "https"),
        ("10.0.0.1", "http", "http"),
        ("10.0.0.1", "https, http", "http"),
        ("10.0.0.1", None, None),
        ("192.0.2.1", "https", None),
        (None, "https", None),
    ],
)
def test_the_scheme_is_what_a_trusted_proxy_says(peer, said, scheme):
    """Nobody else is believed."""
    headers = {} if said is None else {"X_Forwarded_Proto": said}
    assert TRUSTED.scheme(request(peer, **headers)) == scheme


def test_without_trusted_proxies_nothing_is_believed():
    """The default."""
    asked = request("10.0.0.1", X_Forwarded_For="198.51.100.7", X_Forwarded_Proto="https")
    none = Proxies(())
    assert (none.client(asked), none.scheme(asked)) == ("10.0.0.1", None)
    assert repr(none) == "<Proxies none>"
