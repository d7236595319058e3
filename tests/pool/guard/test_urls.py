from __future__ import annotations

import pytest

from pool.guard.addresses import EVERYWHERE, read_networks
from pool.guard.urls import RefusedUrl, read_url


def test_a_url_is_read() -> None:
    """HTTPS to a name needs no permission, the rest is given with the call."""
    assert read_url("https://far.example/mcp?a=b", (), allow_http=False).host == "far.example"
    assert read_url("http://127.0.0.1:9000/", EVERYWHERE, allow_http=True).port == 9000
    near = read_networks(("10.0.0.0/8",))
    assert read_url("https://10.1.2.3/", near, allow_http=False).host == "10.1.2.3"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://far.example/", "must begin with https://"),
        ("https://far.example:22/", "must have port 80, 443, or one above 1023"),
        ("https://127.0.0.1/", "leads to an address that this server does not connect to"),
        ("https://[::ffff:169.254.169.254]/", "leads to an address"),
        ("https://2130706433/", "must name a host, or have an address in its usual form"),
        ("https://0x7f.1/", "must name a host, or have an address in its usual form"),
        ("https://me@far.example/", "must not have a user or a password"),
    ],
)
def test_a_url_that_leads_astray_is_refused(url: str, said: str) -> None:
    """What is said of it is the rest of a sentence, without the URL."""
    with pytest.raises(RefusedUrl, match=said) as raised:
        read_url(url, (), allow_http=False)
    assert url not in str(raised.value)


def test_networks_are_none_all_or_listed() -> None:
    """As an option `allow_private` says."""
    assert read_networks(False) == ()
    assert read_networks(True) == EVERYWHERE
    assert [str(network) for network in read_networks(("fd00::/8",))] == ["fd00::/8"]
