"""What the Redis store costs, and what its callers are told of its faults."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from pool.errors import Internal, LeaseLost, StoreUnavailable
from pool.store.base import Lease, SessionKey
from pool.store.redis import RedisStore
from pool.store.sharing import CancelTurn
from pool.turn import Webhook
from tests.contract.nudges import joined
from tests.contract.steps import (
    S1,
    S2,
    accept,
    answer,
    claim,
    commit,
    log_of,
    make_turn,
    said,
    stamped,
)
from tests.support.redis_process import RedisServer
from tests.support.redis_servers import redis_server
from tests.support.redis_stores import opened, run_turn

pytestmark = pytest.mark.real_time


def _calls(server: RedisServer) -> dict[str, int]:
    """How often each command was called by clients, or by scripts, since they were counted."""
    lines = server.execute("INFO", "commandstats").splitlines()
    counts = {}
    for line in lines:
        name, colon, stats = line.removeprefix("cmdstat_").partition(":calls=")
        if colon:
            counts[name] = int(stats.partition(",")[0])
    return counts


# --- what it costs


async def test_a_turn_takes_two_round_trips() -> None:
    """Accepted, with its agent's state, and committed: counted at the server."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            await run_turn(store)
            before = _calls(server)
            for _ in range(10):
                await run_turn(store)
            after = _calls(server)
            outside = ("evalsha", "eval")
            assert [after.get(each, 0) - before.get(each, 0) for each in outside] == [20, 0]


async def test_nothing_dangerous_is_ever_sent() -> None:
    """No KEYS, CONFIG, FLUSHALL, DEBUG, nor SCAN of the whole, whatever is called."""
    with redis_server() as server:
        # what the test's own server commands count is taken before
        async with opened(server) as store, joined(store, "a", "b"):
            await _tour(store)
            called = set(_calls(server))
        forbidden = {"keys", "flushall", "flushdb", "debug", "scan", "monitor", "script"}
        assert not called & forbidden
        assert not [each for each in called if each.startswith(("config", "acl"))]


async def _tour(store: RedisStore) -> None:
    turn = make_turn(webhook=Webhook("https://example.org"))
    _, lease = await accept(store, turn, "a")
    await store.append(lease, stamped(said("x"), turn, lease.epoch, 0), turn)
    await store.accept(make_turn(), owner="b", key="k")
    await store.signal(S1, CancelTurn(turn.id))
    await store.watch(S1, "b")
    await store.inbox(lease, "")
    await store.release(lease)
    lease = await claim(store, S1, "b")
    for each in (await store.turns(S1, None, 10)).items:
        await commit(store, lease, each)
    await store.take_deliveries(10, 0.0)
    await store.fork_session(S1, S2, None)
    carried = await store.carry_out(S1)
    assert carried is not None
    await store.sessions("acme", None, 10)
    await store.dead_letters(None, 10)
    await store.all_sessions(None, 10)
    await log_of(store, S1)
    await store.delete_session(S1)
    await store.carry_in(carried)
    await store.replicas()
    store.tick()
    await store.ping()


async def test_an_idle_session_takes_little_room() -> None:
    """With ten turns, their events, words and a state: bytes, as Redis counts them."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            await run_turn(store, SessionKey("acme", "first"))
            before = _memory(server)
            sessions = [SessionKey("acme", f"s{number}") for number in range(50)]
            for key in sessions:
                for _ in range(10):
                    await run_turn(store, key)
            assert (_memory(server) - before) / len(sessions) < 8_000


def _memory(server: RedisServer) -> int:
    info = server.execute("INFO", "memory")
    [line] = [each for each in info.splitlines() if each.startswith("used_memory_dataset:")]
    return int(line.partition(":")[2])


# --- faults of Redis


async def test_a_full_redis_says_what_to_do() -> None:
    """It takes no more: refused with the remedy, and it goes on when there is room."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            await run_turn(store, S2)
            turn = make_turn()
            _, lease = await accept(store, turn, "a")
            before = server.execute("HGETALL", store._keys.session(S1).session)
            server.execute("CONFIG", "SET", "maxmemory", "100kb")
            for call in (
                lambda: answer(store, key=SessionKey("acme", "s3")),
                lambda: run_turn(store, S2),
                lambda: store.accept(make_turn(), owner="a"),
                lambda: store.append(lease, stamped(said("x"), turn, lease.epoch, 0), turn),
                lambda: commit(store, lease, turn),
            ):
                with pytest.raises(StoreUnavailable, match="maxmemory"):
                    await call()
            assert server.execute("HGETALL", store._keys.session(S1).session) == before
            assert await store.session(SessionKey("acme", "s3")) is None
            server.execute("CONFIG", "SET", "maxmemory", "0")
            assert await commit(store, lease, turn)


async def test_a_defect_of_a_step_is_not_told_to_callers() -> None:
    """What Redis says about it is in the log."""
    with redis_server() as server:
        async with opened(server) as store:
            names = store._keys.session(S1)
            server.execute("SET", names.session, "not a hash")
            with capture_logs() as logs, pytest.raises(Internal, match="accept") as caught:
                await store.accept(make_turn(), owner="a")
            assert "not a hash" not in str(caught.value)
            assert "holding the wrong kind of value" in logs[-1]["reply"]


async def test_two_prefixes_never_meet() -> None:
    """Two pools of replicas may share one Redis."""
    with redis_server() as server:
        async with opened(server) as one, opened(server, prefix="other") as two:
            await answer(one)
            assert await two.session(S1) is None
            assert await two.all_sessions(None, 10) == ([], None)


async def test_a_late_lease_is_lost_to_the_loaders_too() -> None:
    """`load` under a lease that another took."""
    with redis_server() as server:
        async with opened(server) as store:
            _, lease = await accept(store, make_turn(), "a")
            with pytest.raises(LeaseLost):
                await store.load(Lease(S1, "b", lease.epoch), "helper", "")
