"""Looking every second at what others change."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from pool.errors import StoreUnavailable
from pool.guard.looking import Looking


class Seen:
    """Counts looks, and goes wrong as it is told."""

    def __init__(self) -> None:
        self.looks = 0
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.looks += 1
        if self.error is not None:
            raise self.error


def looking(seen: Seen) -> Looking:
    return Looking(seen, name="things", away="it is not known what is the case")


async def test_it_looks_at_once_and_every_second_until_it_is_stopped() -> None:
    """Stopped, it looks no more; it may be stopped again."""
    seen = Seen()
    it = looking(seen)
    assert repr(it) == "<Looking things [idle]>"
    await it.stop()
    await it.start()
    assert (seen.looks, repr(it)) == (1, "<Looking things [running]>")
    await asyncio.sleep(3.5)
    await it.stop()
    await it.stop()
    await asyncio.sleep(5)
    assert seen.looks == 4


async def test_a_store_that_is_away_is_told_of_once_an_outage() -> None:
    """It goes on looking, and tells of the next outage again."""
    seen = Seen()
    it = looking(seen)
    seen.error = StoreUnavailable("away")
    with capture_logs() as logs:
        await it.start()
        await asyncio.sleep(3.5)
        seen.error = None
        await asyncio.sleep(1)
        seen.error = StoreUnavailable("away again")
        await asyncio.sleep(2)
    await it.stop()
    assert [line["event"] for line in logs] == ["it is not known what is the case"] * 2


async def test_a_defect_ends_nothing() -> None:
    """It is logged, and the next look is made."""
    seen = Seen()
    it = looking(seen)
    seen.error = ValueError("no such thing")
    with capture_logs() as logs:
        await it.start()
    await asyncio.sleep(1.5)
    await it.stop()
    assert seen.looks == 2
    assert (logs[0]["event"], logs[0]["what"]) == ("looking failed", "things")
