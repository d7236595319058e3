"""What is looked at before a Redis is used, and what is said about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from pool.errors import ConfigError, StoreUnavailable
from pool.store.base import SessionKey
from pool.store.redis import RedisStore
from tests.contract.steps import answer, make_turn
from tests.support.redis_process import RedisServer
from tests.support.redis_servers import redis_server
from tests.support.resp_server import bulk, echo, resp_server

pytestmark = pytest.mark.real_time

SECRET = "canary-secret"


async def _open(url: str) -> None:
    store = RedisStore(url)
    try:
        await store.open()
    finally:
        await store.close()


def _user(server: RedisServer, *rules: str) -> str:
    """The URL of a user of whom all that the store needs is granted, but for these rules."""
    server.execute(
        *(
            "ACL",
            "SETUSER",
            "me",
            "reset",
            "on",
            f">{SECRET}",
            "~ap:*",
            "resetchannels",
            "&ap:*",
            "+@all",
        ),
        *("-config", "-keys", "-flushall", "-flushdb", "-debug", "-acl", "-client", "-monitor"),
        *("-shutdown", "-@admin", "-@dangerous", "+info"),
        *rules,
    )
    return f"redis://me:{SECRET}@{server.address}"


async def test_what_is_looked_at_stays_as_it_is() -> None:
    """A store that is opened touches no key of the others: what they left unfinished is found."""
    with redis_server() as server:
        first = RedisStore(server.url)
        await first.open()
        # enough sessions for every partition to have some
        keys = [SessionKey("t", f"s{number}") for number in range(400)]
        for key in keys:
            await first.accept(make_turn(key=key), owner="")
        before = sorted(server.execute("KEYS", "*"))
        second = RedisStore(server.url)
        await second.open()
        assert sorted(server.execute("KEYS", "*")) == before
        assert set(await second.orphans(1_000)) == set(keys)
        await first.close()
        await second.close()


async def test_a_user_needs_nothing_dangerous() -> None:
    """No CONFIG, KEYS, FLUSHALL, DEBUG or ACL, and only its own keys and channels."""
    with redis_server() as server:
        store = RedisStore(_user(server))
        await store.open()
        await answer(store)
        await store.close()


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (("-publish",), "+publish"),
        (("-hset", "-lpos"), "+hset, +lpos"),
        (("-zrandmember",), "+zrandmember"),
        (("-evalsha",), "+evalsha"),
        (("-eval",), "+eval"),
        (("-info",), "+info"),
        (("-ping",), "lacks +ping: grant"),
        (("-subscribe",), "lacks +subscribe on &ap:*: grant"),
        (("-unsubscribe",), "lacks +unsubscribe: grant"),
        (("-ping", "-subscribe", "-unsubscribe"), "+ping, +subscribe on &ap:*, +unsubscribe"),
        (("resetkeys", "~other:*"), "~ap:*"),
        (("resetkeys", "~ap:{?}:*"), "~ap:*"),
        (("resetchannels", "&other:*"), "&ap:*"),
    ],
)
async def test_what_a_user_lacks_is_named(rules: Sequence[str], missing: str) -> None:
    """Commands, keys and channels, so that they can be granted; the password is not told."""
    with redis_server() as server:
        with pytest.raises(ConfigError, match=re.escape(missing)) as caught:
            await _open(_user(server, *rules))
        assert "ACL SETUSER" in str(caught.value)
        assert SECRET not in str(caught.value)


async def test_a_user_who_may_not_ask_the_time_is_told_so() -> None:
    """The first thing on a connection; without it there is none."""
    with redis_server() as server, pytest.raises(StoreUnavailable, match="may not use TIME"):
        await _open(_user(server, "-time"))


async def test_a_wrong_password_is_told() -> None:
    """What to check, and not what was wrong with it."""
    with redis_server() as server:
        _user(server)
        with pytest.raises(StoreUnavailable, match="user or password") as caught:
            await _open(f"redis://me:wrong-{SECRET}@{server.address}")
        assert SECRET not in str(caught.value)


async def test_a_redis_that_is_not_there_is_told() -> None:
    """Where it was looked for, and what to do."""
    with redis_server() as server:
        url = server.url
    with pytest.raises(StoreUnavailable, match="check that it runs"):
        await _open(url)


@pytest.mark.parametrize("version", ["6.0.20", "5.0.0", "2.8.19"])
async def test_an_old_version_is_refused(version: str) -> None:
    """Which one it is, and which are new enough."""

    def answer_info(words: Sequence[bytes]) -> bytes:
        return bulk(f"redis_version:{version}\r\n".encode()) if words[0] == b"INFO" else echo(words)

    async with resp_server(answer_info) as server:
        with pytest.raises(ConfigError, match=r"version .*6\.2 or newer"):
            await _open(server.url)


async def test_a_replica_is_refused() -> None:
    """It would take no write."""
    with redis_server() as master:
        follow = ("--replicaof", "127.0.0.1", str(master.port))
        with (
            redis_server(extra=follow) as replica,
            pytest.raises(ConfigError, match="is a replica"),
        ):
            await _open(replica.url)


async def test_what_may_lose_data_is_warned_of() -> None:
    """Eviction, and no file to come back from; a good Redis is not complained about."""
    with redis_server(extra=("--maxmemory-policy", "allkeys-lru")) as server:
        with capture_logs() as logs:
            await _open(server.url)
        said = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
        assert len(said) == 2
        assert "maxmemory-policy" in said[0]
        assert "appendonly" in said[1]
    with redis_server(appendonly="always") as server:
        with capture_logs() as logs:
            await _open(server.url)
        assert logs == []
