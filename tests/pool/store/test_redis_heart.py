"""What the Redis store does by itself: it keeps owners alive, and listens for nudges."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from pool.store.sharing import CancelTurn, Nudge
from tests.contract.nudges import joined
from tests.contract.steps import (
    S1,
    accept,
    commit,
    make_turn,
)
from tests.support.proxy import proxied
from tests.support.redis_servers import redis_server
from tests.support.redis_stores import eventually, opened

pytestmark = pytest.mark.real_time

# --- the heart


async def test_leases_outlive_a_loop_that_stands_still() -> None:
    """An agent blocks the loop for longer than a lease: nobody else gets the session."""
    with redis_server() as server:
        async with opened(server, lease_s=0.6) as store, joined(store, "a"):
            turn = make_turn()
            _, lease = await accept(store, turn, "a")
            store.announce("a", b"busy")
            time.sleep(1.5)  # noqa: ASYNC251 - this is what is tested
            assert list(await store.orphans(10)) == []
            assert await store.claim(S1, "b") is None
            assert [each.status for each in await store.replicas()] == [b"busy"]
            assert await commit(store, lease, turn)


async def test_who_leaves_stops_beating() -> None:
    """Its thread ends; it is nobody's replica any more, at once and later."""
    with redis_server() as server:
        async with opened(server, lease_s=0.6) as store:
            async with joined(store, "a"):
                await accept(store, make_turn(), "a")
            assert store._heart._thread is None
            assert list(await store.orphans(10)) == [S1]
            assert list(await store.replicas()) == []


async def test_a_heart_that_cannot_beat_goes_on_trying() -> None:
    """It says so once, and once when it is well again."""
    with redis_server() as server:
        async with opened(server, lease_s=0.6) as store, joined(store, "a"):
            with capture_logs() as logs:
                server.kill()
                assert await asyncio.to_thread(store.beat) is False
                assert await asyncio.to_thread(store.beat) is False
                server.start()
                assert await asyncio.to_thread(store.beat) is True
            said_so = [entry["event"] for entry in logs if "heartbeat" in entry["event"]]
            assert said_so == ["heartbeat failed; leases end soon", "heartbeat is well again"]
            await eventually(lambda: accept(store, make_turn(), "a"))


async def test_a_script_that_redis_forgot_does_not_stop_the_heart() -> None:
    """It sends the text."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a"):
            assert await asyncio.to_thread(store.beat) is True
            server.execute("SCRIPT", "FLUSH")
            assert await asyncio.to_thread(store.beat) is True


# --- nudges


async def test_nudges_come_again_after_a_lost_connection() -> None:
    """Who listens is told that hints may have been lost, and hears the next ones."""
    with redis_server() as server:
        async with (
            proxied(server.port) as proxy,
            opened(server, port=proxy.port) as store,
            joined(store, "a") as (ears,),
        ):
            proxy.cut()
            await ears.hear(Nudge("all"))
            turn = make_turn()
            await eventually(lambda: accept(store, turn, "a"))
            await store.signal(S1, CancelTurn(turn.id))
            await ears.hear(Nudge("inbox", S1))


async def test_a_half_open_channel_is_noticed() -> None:
    """Nothing comes through any more, not even an end: it is asked whether it is there."""
    with redis_server() as server:
        async with (
            proxied(server.port) as proxy,
            opened(server, port=proxy.port, lease_s=0.6) as store,
            joined(store, "a") as (ears,),
        ):
            proxy.stop_forwarding()
            listening = store._nudges._wire
            assert listening is not None
            await listening.closed
            proxy.cut()
            proxy.forward()
            await ears.hear(Nudge("all"))


async def test_a_message_of_a_later_version_is_passed_over() -> None:
    """It does not end the listening."""
    with redis_server() as server:
        async with opened(server) as store, joined(store, "a") as (ears,):
            server.execute("PUBLISH", "ap:to:a", "sing acme:s1")
            server.execute("PUBLISH", "ap:to:a", "inbox acme:s1")
            await ears.hear(Nudge("inbox", S1))
            assert ears.heard == []
