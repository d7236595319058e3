"""A turn that ends whatever process runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fault.audit import audit, opened
from tests.fault.clients import calling, eventually
from tests.fault.replicas import Fleet, fleet
from tests.support.redis_servers import redis_server

# a process that ends takes seconds to start again on a busy machine
pytestmark = pytest.mark.real_time(90)

ATTEMPTS = 3


@asynccontextmanager
async def restarted(replicas: Fleet) -> AsyncIterator[None]:
    """Whichever replica ends is started again, as by whatever runs it."""

    async def watch() -> None:
        async def fallen() -> list[int]:
            return [place for place, each in enumerate(replicas) if not each.alive]

        while True:
            for place in await eventually(fallen, "a replica falls", patience_s=60):
                await asyncio.to_thread(replicas[place].start)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def stored(url: str, turn_id: str, *, attempt: int) -> None:
    """Once the store knows of an attempt: one that it does not know of does not count."""
    async with opened(url) as store:

        async def known() -> bool:
            turn = await store.turn(turn_id)
            return turn is not None and turn.attempt == attempt

        await eventually(known, f"the store knows of attempt {attempt}")


@pytest.mark.parametrize("ahead", [0, 1], ids=["it starts at once", "it waits in a line"])
async def test_a_poison_turn_is_a_dead_letter_at_last(tmp_path: Path, ahead: int) -> None:
    """Row 13: a turn that exits its process is tried so many times, then kept as a dead letter; the
    turns before and behind it and in other sessions end as if nothing had been.
    """
    url = f"sqlite://{tmp_path}/pool.db"
    with fleet(1, url, tmp_path) as replicas:
        async with calling(replicas) as caller, restarted(replicas):
            before = [await caller.submit("s", "hold=line say=2") for _ in range(ahead)]
            poison = await caller.submit("s", "hold=gate exit")
            behind = await caller.submit("s", "say=2")
            beside = [await caller.submit(f"b{n}", "hold=gate say=2 tool") for n in range(5)]
            replicas.runs.open("line")
            await caller.begun(poison, *beside)
            await stored(url, poison, attempt=1)
            replicas.runs.open("gate")
            for attempt in range(2, ATTEMPTS + 1):
                await caller.begun(poison, attempt=attempt)
            late = [await caller.submit(f"l{n}", "say=2 tool") for n in range(5)]
            ended = await caller.ended(poison)
            assert (ended["state"], ended["attempt"]) == ("failed", ATTEMPTS)
            assert ended["error"]["code"] == "dead_letter"
            for turn in (*before, behind, *beside, *late):
                assert (await caller.ended(turn))["state"] == "completed"
        assert [run.attempt for run in replicas.runs.of(poison)] == [1, 2, 3]
        replicas[0].kill()
        await audit(url, replicas.runs, accepted=[*before, poison, behind, *beside, *late])


async def test_a_poison_turn_spares_its_neighbours(tmp_path: Path) -> None:
    """Row 13 on two replicas: turns that run beside the poison when it strikes run again, at last
    one by one, and are no dead letters for it.
    """
    with redis_server() as redis, fleet(2, redis.url, tmp_path) as replicas:
        async with calling(replicas) as caller, restarted(replicas):
            beside = [await caller.submit(f"b{n}", "work=700 say=2") for n in range(4)]
            poison = await caller.submit("p", "work=300 exit")
            for turn in beside:
                assert (await caller.ended(turn))["state"] == "completed"
            ended = await caller.ended(poison)
            assert ended["error"]["code"] == "dead_letter"
        assert max(run.attempt for run in replicas.runs.all()) == ATTEMPTS
        account = await audit(redis.url, replicas.runs, accepted=[poison, *beside])
        assert account.states == {"completed": 4, "failed": 1}
