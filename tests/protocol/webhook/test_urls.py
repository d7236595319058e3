from __future__ import annotations

import pytest

from pool.errors import ConfigError, InvalidRequest
from protocol.webhook.config import WebhookConfig
from protocol.webhook.urls import checked

CLOSED = WebhookConfig()
OPEN = WebhookConfig(allow_private=True, allow_http=True)
SECRET = "whsec_" + "A" * 32


@pytest.mark.parametrize(
    "url",
    [
        "https://receiver.example/hook?token=1",
        "https://receiver.example.:443/",
        "https://receiver.example:8443/",
        "https://my_receiver.example/",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
    ],
)
def test_ordinary_urls_may_be_posted_to(url: str) -> None:
    """HTTPS to a name or a public address needs no permission."""
    assert str(checked(url, CLOSED)).startswith("https://")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must be an absolute URL"),
        ("receiver.example/hook", "must be an absolute URL"),
        ("/hook", "must be an absolute URL"),
        ("ftp://receiver.example/", "must be an absolute URL"),
        ("file:///etc/passwd", "must be an absolute URL"),
        ("https:///hook", "must be an absolute URL"),
        ("http://receiver.example/", "must begin with https://"),
        ("https://user:secret@receiver.example/", "must not have a user or a password"),
        ("https://user@receiver.example/", "must not have a user or a password"),
        ("https://receiver.example:22/", "must have port 80, 443, or one above 1023"),
        ("https://receiver.example:0/", "must have port 80, 443, or one above 1023"),
        ("https://receiver.example:99999/", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://127.0.0.1/", "an address that this server does not connect to"),
        ("https://[::1]/", "an address that this server does not connect to"),
        ("https://[::ffff:10.0.0.1]/", "an address that this server does not connect to"),
        ("https://[fe80::1%25eth0]/", "an address that this server does not connect to"),
        ("https://169.254.169.254/latest/meta-data", "does not connect to"),
        ("https://256.0.0.1/", "does not connect to"),
        ("https://receiver.example/\r\nHost: x", "has characters that a URL cannot have"),
        ("https://receiver.example/\0", "has characters that a URL cannot have"),
        ("https://receiver.example\\@evil.example/", "has characters that a URL cannot have"),
        ("https://b\u00fccher.example/", "has characters that a URL cannot have"),
        ("https://receiver .example/", "has characters that a URL cannot have"),
    ],
)
def test_other_urls_are_refused(url: str, message: str) -> None:
    """What is wrong is said, and which field it is; the URL is not repeated."""
    with pytest.raises(InvalidRequest, match=message) as raised:
        checked(url, CLOSED)
    assert raised.value.field == "webhook.url"
    assert "example" not in raised.value.detail


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "1.2.3.4.5",
        "a..b",
        "-",
        "exa%6dple.org",
    ],
)
def test_an_address_in_disguise_is_refused(host: str) -> None:
    """Spellings that a system's look-up takes for an address are none here, even where all
    addresses are allowed.
    """
    with pytest.raises(InvalidRequest, match="must name a host"):
        checked(f"http://{host}/", OPEN)


def test_permission_is_given_in_the_configuration() -> None:
    """Private addresses and HTTP each have an option."""
    assert checked("http://127.0.0.1:9000/", OPEN).port == 9000
    listed = WebhookConfig(allow_private=("10.0.0.0/8",), allow_http=True)
    assert checked("http://10.1.2.3/", listed).host == "10.1.2.3"
    with pytest.raises(InvalidRequest, match="does not connect to"):
        checked("http://127.0.0.1/", listed)
    with pytest.raises(InvalidRequest, match="must begin with https"):
        checked("http://127.0.0.1/", WebhookConfig(allow_private=True))


@pytest.mark.parametrize(
    "secret",
    [
        "canary",
        "A" * 32,
        "whsec_",
        "whsec_" + "A" * 28,
        "whsec_" + "A" * 33,
        "whsec_" + "A" * 100,
        "whsec_" + "A" * 31 + "!",
        "whsec_" + "\u00e4" * 32,
    ],
)
def test_a_secret_has_the_usual_form(secret: str) -> None:
    """Anything else is a mistake, and is not repeated."""
    with pytest.raises(ConfigError, match="openssl rand -base64 32") as raised:
        WebhookConfig(secret=secret)
    assert raised.value.option == "secret"
    assert raised.value.value == "..."


def test_a_secret_is_not_shown() -> None:
    """The text of the configuration has none, and says whether there is one."""
    assert WebhookConfig(secret=SECRET).secret == SECRET
    shown = repr(WebhookConfig(secret=SECRET))
    assert shown == "<WebhookConfig secret ..., private False, http False>"
    assert repr(OPEN) == "<WebhookConfig secret none, private True, http True>"


@pytest.mark.parametrize("network", ["10.0.0.1/8", "localhost", "10.0.0.0/33", ""])
def test_a_network_is_checked(network: str) -> None:
    """What is no network is a mistake."""
    with pytest.raises(ConfigError, match="write networks as"):
        WebhookConfig(allow_private=(network,))
