"""A connection that is dead at one end only."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.fault.clients import calling, eventually
from tests.fault.replicas import Replica, fleet
from tests.support.proxy import proxied

pytestmark = pytest.mark.real_time(20)

HEARTBEAT_S = 0.5


def connections(replica: Replica) -> int:
    """How many connections the replica has open with clients."""
    found = psutil.Process(replica.process.process.pid).net_connections("tcp")
    return sum(each.laddr.port == replica.port and each.status == "ESTABLISHED" for each in found)


async def test_a_websocket_whose_client_is_gone_is_closed(tmp_path: Path) -> None:
    """Row 7: nothing gets through any more, and neither end is told. The server closes the
    connection when two pings are not answered; the session itself is not touched.
    """
    environ = {
        "ACTORPOOL_WS_HEARTBEAT_S": str(HEARTBEAT_S),
        "ACTORPOOL_WS_CLOSE_GRACE_S": "0.2",
    }
    with fleet(1, f"sqlite://{tmp_path}/pool.db", tmp_path, environ=environ) as replicas:
        (replica,) = replicas
        async with calling(replicas) as caller, proxied(replica.port) as wire:
            others = connections(replica)
            url, protocols = f"{wire.url}/v1/ws", ("actorpool.v1",)
            socket = await caller.http.ws_connect(url, protocols=protocols)
            await socket.send_json({"type": "hello"})
            assert (await socket.receive_json())["type"] == "welcome"
            await socket.send_json({"type": "turn", "session_id": "s", "input": "hold=gate say=2"})
            turn = (await socket.receive_json())["turn"]["id"]
            await caller.begun(turn)
            answering = asyncio.create_task(answer_pings(socket))
            due = time.monotonic() + 4 * HEARTBEAT_S

            async def still_there() -> bool:
                assert connections(replica) == others + 1
                return time.monotonic() > due

            await eventually(still_there, "some intervals pass while pings are answered")
            wire.stop_forwarding()
            cut_at = time.monotonic()

            async def closed() -> bool:
                return connections(replica) == others

            await eventually(closed, "the server closes the dead connection")
            # the interval that was under way, and two whole ones
            assert time.monotonic() - cut_at < 3 * HEARTBEAT_S + 0.5
            answering.cancel()
            await asyncio.wait([answering])
            replicas.runs.open("gate")
            assert (await caller.ended(turn))["state"] == "completed"
            await socket.close()


async def answer_pings(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Take whatever comes; pings are answered on the way."""
    async for _ in socket:
        pass
