"""The Redis user of a server needs little: the very commands that docs/security.md lists.

Check 13: no CONFIG, KEYS, FLUSHALL or DEBUG, nothing that administers, and no keys but its own.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path

import pytest
from redis.connection import Connection
from redis.exceptions import NoPermissionError, ResponseError

from pool.guard.answers_redis import RedisAnswers
from pool.guard.rate_limits import RateLimit
from pool.guard.rates import Rates
from pool.guard.rates_redis import RedisWindows
from pool.turn import Principal
from tests.contract import stores_redis
from tests.contract.opened import Opened, Opening
from tests.support.redis_process import RedisServer
from tests.support.redis_servers import redis_server
from tests.support.sockets import serving_from

pytestmark = pytest.mark.real_time(20)

# What the store, the counts of rates and the cache of answers need.
STORE = (
    *("info", "time", "ping", "eval", "evalsha", "subscribe", "unsubscribe", "publish"),
    *("set", "get", "getrange", "setrange", "exists", "del", "unlink"),
    *("pexpire", "pttl", "persist"),
    *("rpush", "llen", "lpos", "lrange", "lindex", "ltrim", "lpop"),
    *("hset", "hsetnx", "hget", "hmget", "hgetall", "hincrby", "hdel"),
    *("sadd", "smembers", "srandmember", "srem"),
    *("zadd", "zscore", "zrange", "zrevrange", "zrangebyscore", "zrandmember", "zrem"),
    "zremrangebyrank",
)
RATES = ("get", "evalsha", "script|load", "incrby", "expire")
ANSWERS = ("get", "exists", "psetex")
DANGEROUS = (
    *(("CONFIG", "GET", "*"), ("KEYS", "*"), ("FLUSHALL",), ("FLUSHDB",), ("SWAPDB", 0, 1)),
    *(("DEBUG", "SLEEP", "0"), ("ACL", "LIST"), ("CLIENT", "LIST"), ("MONITOR",), ("SAVE",)),
    *(("SHUTDOWN", "NOSAVE"), ("REPLICAOF", "NO", "ONE"), ("MODULE", "LIST"), ("SLOWLOG", "GET")),
    *(("SCRIPT", "FLUSH"), ("SCAN", "0"), ("MIGRATE", "h", 1, "k", 0, 1), ("SORT", "ap:x")),
)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A server of which the default user is the test's own."""
    with redis_server() as server:
        yield server


def user(server: RedisServer, commands: Sequence[str], prefix: str = "ap") -> str:
    """The URL of a user who may use these commands, on keys and channels of one prefix."""
    server.execute(
        *("ACL", "SETUSER", "pool", "reset", "on", ">secret", f"~{prefix}:*"),
        *("resetchannels", f"&{prefix}:*", "-@all", *(f"+{command}" for command in commands)),
    )
    return f"redis://pool:secret@{server.address}"


def refusals(server: RedisServer) -> list[str]:
    """What the user was refused since the last time."""
    found = [dict(zip(e[::2], e[1::2], strict=True)) for e in server.execute("ACL", "LOG")]
    server.execute("ACL", "LOG", "RESET")
    return [entry["object"] for entry in found if entry["username"] == "pool"]


Contract = Callable[[Opening], Awaitable[None]]


def contract() -> Iterator[Contract]:
    """Every test of the contract that only needs a store."""
    for path in sorted(Path(stores_redis.__file__).parent.glob("test_*.py")):
        module = import_module(f"tests.contract.{path.stem}")
        for name, found in vars(module).items():
            only = inspect.isfunction(found) and [*inspect.signature(found).parameters]
            if name.startswith("test_") and only == ["opening"]:
                yield found


CONTRACT = list(contract())


def test_the_contract_is_there():
    """The tests below are about something."""
    assert len(CONTRACT) > 100


@pytest.mark.parametrize("keeps", CONTRACT, ids=lambda test: f"{test.__module__}:{test.__name__}")
async def test_the_contract_is_kept_with_these_commands_alone(keeps, redis):
    """Each of its tests passes, and the server notes nothing that was refused."""
    await keeps(opening(redis))
    assert refusals(redis) == []


def opening(server: RedisServer) -> Callable[[], AbstractAsyncContextManager[Opened]]:
    """Opens the store of the user, emptied before."""
    servers = stores_redis._Servers(user(server, STORE), [server])
    return stores_redis.opening_of(lambda: servers)


async def test_a_server_needs_nothing_else(redis):
    """Sessions, turns, a stream and the metrics of a server on the store of such a user."""
    async with opening(redis)() as opened, serving_from(opened.store) as peer:
        answer = await peer.post("/v1/sessions/s/turns", {"input": "x"})
        turn = (await answer.json())["id"]
        for path in ("/ready", "/v1/sessions", f"/v1/turns/{turn}/events", "/v1/pool"):
            assert (await peer.get(path)).status == 200, path
        assert (await peer.post("/v1/sessions/s/fork", {})).status == 201
        assert (await peer.request("DELETE", "/v1/sessions/s")).status == 204
    assert refusals(redis) == []


async def test_counts_of_rates_need_less(redis):
    """Of requests and of tokens, up to the refusal."""
    windows = RedisWindows(user(redis, RATES, "ap-rate"))
    limits = (RateLimit(amount=1), RateLimit(what="tokens", who="tenant", amount=9))
    rates = Rates(limits, windows=windows, wall=time.time)
    try:
        request = rates.request(Principal())
        assert request is not None
        await rates.count(request)
        await rates.charge(Principal(), 5)
    finally:
        await windows.close()
    assert refusals(redis) == []


async def test_the_cache_of_answers_needs_less(redis):
    """An answer is kept and found."""
    answers = RedisAnswers(user(redis, ANSWERS, "ap-answer"), timeout_s=5)
    try:
        await answers.put("k", b"answer", 60)
        assert await answers.get("k") == b"answer"
    finally:
        await answers.close()
    assert refusals(redis) == []


def test_nothing_of_it_administers(redis):
    """None of the commands is of the class `admin`, and of `dangerous` only INFO is."""
    used = {command.partition("|")[0] for command in (*STORE, *RATES, *ANSWERS)}
    assert used & set(redis.execute("ACL", "CAT", "dangerous")) == {"info"}
    assert not used & set(redis.execute("ACL", "CAT", "admin"))


@pytest.mark.parametrize("words", DANGEROUS, ids=lambda words: words[0])
def test_the_user_may_do_nothing_dangerous(words, redis):
    """Whoever finds its password can neither look around, nor wipe, nor stop the Redis."""
    user(redis, STORE)
    # some a Redis of today refuses to everybody, unless it is told otherwise
    with pytest.raises(ResponseError, match=r"no permissions to run|command not allowed"):
        as_user(redis, *words)


@pytest.mark.parametrize("key", ["other", "ap", "apx:1", "ap-rate:1", "*"])
def test_the_user_may_touch_no_other_keys(key, redis):
    """Nor those of the other parts, if they have users of their own."""
    user(redis, STORE)
    with pytest.raises(NoPermissionError):
        as_user(redis, "GET", key)
    with pytest.raises(NoPermissionError):
        as_user(redis, "EVAL", "return redis.call('GET', KEYS[1])", 1, key)


def as_user(server: RedisServer, *words: str | int) -> object:
    """What the user is answered."""
    who = {"username": "pool", "password": "secret"}
    connection = Connection("127.0.0.1", server.port, protocol=2, **who)
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        connection.disconnect()
