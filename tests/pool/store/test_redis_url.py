"""URLs of Redis: what they say, and that they are never shown with their passwords."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from pool.errors import ConfigError
from pool.store.redis import RedisStore
from pool.store.redis_url import Address, parse_redis_url

SECRET = "canary-secret"


def test_one_server() -> None:
    """Host, port and database; each has its default."""
    url = parse_redis_url("redis://example.org:7000/3")
    assert (url.kind, url.addresses) == ("server", (Address("example.org", 7000),))
    assert (url.login.db, url.login.tls, url.login.greeting()) == (3, None, [("SELECT", "3")])
    plain = parse_redis_url("redis://example.org")
    assert (plain.addresses, plain.login.db) == ((Address("example.org", 6379),), 0)
    assert plain.login.greeting() == []


def test_a_login_is_percent_encoded() -> None:
    """User and password may hold any sign; a password alone is the default user's."""
    url = parse_redis_url("redis://us%40er:p%3A%2Fw%40@h/0")
    assert url.login.greeting() == [("AUTH", "us@er", "p:/w@")]
    assert parse_redis_url("redis://:pw@h").login.greeting() == [("AUTH", "pw")]


def test_tls() -> None:
    """`rediss`, or `tls=true` with any other scheme: certificates and names are checked."""
    for text in ("rediss://h", "redis://h?tls=true", "redis+cluster://h?tls=true"):
        tls = parse_redis_url(text).login.tls
        assert tls is not None
        assert (tls.check_hostname, tls.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert parse_redis_url("redis+sentinel://h/m?tls=true").sentinel_login.tls is not None


def test_sentinels() -> None:
    """Several hosts, the master's name, the database, and who we are to the sentinels."""
    url = parse_redis_url(
        "redis+sentinel://u:p@one:1,two,[::1]:3/my%20master/4?sentinel_user=s&sentinel_password=t"
    )
    assert url.kind == "sentinel"
    assert url.addresses == (Address("one", 1), Address("two", 26379), Address("::1", 3))
    assert (url.master, url.login.db) == ("my master", 4)
    assert url.sentinel_login.greeting() == [("AUTH", "s", "t")]
    assert str(url.addresses[2]) == "[::1]:3"


def test_a_cluster() -> None:
    """Some of its nodes."""
    url = parse_redis_url("redis+cluster://one:1,two:2")
    assert (url.kind, url.addresses) == ("cluster", (Address("one", 1), Address("two", 2)))


@pytest.mark.parametrize(
    "rest",
    [
        "redis://{}@",
        "redis://{}@h:0",
        "redis://{}@h:70000",
        "redis://{}@h:",
        "redis://{}@h:x",
        "redis://{}@[::1",
        "redis://{}@[::1]x",
        "redis://{}@h/x",
        "redis://{}@h/1/2",
        "redis://{}@h/-1",
        "redis://{}@a,b",
        "redis://{}@h?x=1",
        "redis://{}@h?tls=yes",
        "rediss://{}@h?ca_file=/none",
        "redis+sentinel://{}@h",
        "redis+sentinel://{}@h/",
        "redis+sentinel://{}@h,/m",
        "redis+cluster://{}@h/1",
        "http://{}@h",
        "redis",
    ],
)
def test_a_bad_url_is_refused_without_its_password(rest: str) -> None:
    """What is wrong is said, and the password is not."""
    with pytest.raises(ConfigError) as caught:
        RedisStore(rest.format(f"me:{SECRET}"))
    assert SECRET not in str(caught.value)
    assert caught.value.option == "store.url"


def test_nothing_shows_a_password() -> None:
    """Neither the store nor what it is made of, however it is printed."""
    text = f"redis+sentinel://me:{SECRET}@h/m?sentinel_password={SECRET}"
    url = parse_redis_url(text)
    shown = [repr(RedisStore(text)), repr(url), str(url), url.shown, repr(url.login)]
    assert SECRET not in "".join(shown)


@pytest.mark.parametrize("option", ["lease_s", "timeout_s"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_times_are_above_zero(option: str, value: float) -> None:
    """A lease or a timeout that is none is refused by name."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError, match=option):
        RedisStore("redis://h", **options)


@pytest.mark.parametrize("prefix", ["", "a:b", "a{b", "a'b", "ä", "a b"])
def test_a_prefix_is_plain(prefix: str) -> None:
    """It goes into keys, scripts and channels as it is."""
    with pytest.raises(ConfigError, match="prefix"):
        RedisStore("redis://h", prefix=prefix)
