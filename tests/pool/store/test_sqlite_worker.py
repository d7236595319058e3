"""The thread of a SQLite store: batches, answers in order, and an end that nobody misses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from pool.errors import Internal, NotFound, StoreUnavailable
from pool.store.sharing import Nudge
from pool.store.sqlite_owners import Telling
from pool.store.sqlite_worker import BATCH_MAX, Job, Outcome, Worker

pytestmark = pytest.mark.real_time


class Bench:
    """Work that waits until it is let go, and notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go = threading.Event()
        self.done = threading.Event()
        self.told: list[Telling] = []

    def __call__(self, jobs: Sequence[Job]) -> Outcome:
        self.go.wait(10)
        self.batches.append(len(jobs))
        self.done.set()
        return Outcome([job.run(*job.arguments) for job in jobs], [Telling(Nudge("all"))])

    def tell(self, tellings: Sequence[Telling]) -> None:
        self.told += tellings

    def worker(self) -> Worker:
        """A thread that does this work."""
        return Worker("bench", self, self.tell)


def _fail(error: BaseException) -> None:
    raise error


async def test_what_waits_is_done_together() -> None:
    """Jobs that came while the thread was busy are one batch, answered in order, told of once."""
    bench = Bench()
    worker = bench.worker()
    first, second = worker.ask((), abs, -1), worker.ask((), abs, -2)
    # what was asked for before the loop came round is handed over
    await asyncio.sleep(0)
    asked = [worker.ask((), abs, -number) for number in range(100)]
    bench.go.set()
    assert (await first, await second) == (1, 2)
    assert await asyncio.gather(*asked) == list(range(100))
    assert bench.batches == [2, 100]
    assert len(bench.told) == len(bench.batches)
    await worker.close()


async def test_a_batch_is_bounded() -> None:
    """However much waits, no more than so many are done at once."""
    bench = Bench()
    worker = bench.worker()
    asked = [worker.ask((), abs, -number) for number in range(2 * BATCH_MAX + 10)]
    bench.go.set()
    await asyncio.gather(*asked)
    assert max(bench.batches) <= BATCH_MAX
    await worker.close()


async def test_an_error_of_the_whole_batch_is_everybodys() -> None:
    """What the work raises is the answer of each job; a defect does not show its text."""
    bench = Bench()
    bench.go.set()
    worker = bench.worker()
    with pytest.raises(NotFound, match="gone"):
        await worker.ask((), _fail, NotFound("gone"))
    with pytest.raises(Internal) as caught:
        await worker.ask((), _fail, ValueError("a secret"))
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
    assert await worker.ask((), abs, -3) == 3
    await worker.close()


async def test_who_left_is_not_answered() -> None:
    """A caller that was cancelled is passed over; the others get their answers."""
    bench = Bench()
    worker = bench.worker()
    left, stays = worker.ask((), abs, -1), worker.ask((), abs, -2)
    left.cancel()
    bench.go.set()
    assert await stays == 2
    await worker.close()


async def test_closing_does_what_was_asked_for() -> None:
    """Everything that waits is done first; then the thread ends, and nothing more is taken."""
    bench = Bench()
    worker = bench.worker()
    asked = [worker.ask((), abs, -number) for number in range(10)]
    bench.go.set()
    await worker.close()
    assert [future.result() for future in asked] == list(range(10))
    with pytest.raises(StoreUnavailable, match="closed"):
        worker.ask((), abs, 1)
    await worker.close()
    assert "bench" not in {thread.name for thread in threading.enumerate()}


async def test_a_thread_that_ends_leaves_nobody_waiting() -> None:
    """Whoever waits is told that the thread is gone, and so is whoever comes later."""
    bench = Bench()
    worker = bench.worker()
    fatal = worker.ask((), _fail, SystemExit("gone"))
    bench.go.set()
    later = [worker.ask((), abs, -1) for _ in range(3)]
    for future in (fatal, *later):
        with pytest.raises(StoreUnavailable, match="restart the server"):
            await future
    with pytest.raises(StoreUnavailable, match="restart the server"):
        worker.ask((), abs, 1)
    await worker.close()


async def test_a_loop_that_is_gone_is_not_called() -> None:
    """A thread whose loop was closed under it goes on in silence."""
    bench = Bench()
    made: list[Worker] = []

    async def begin() -> None:
        made.append(bench.worker())
        made[0].ask((), abs, -1)

    loop = asyncio.new_event_loop()
    await asyncio.to_thread(loop.run_until_complete, begin())
    loop.close()
    bench.go.set()
    assert await asyncio.to_thread(bench.done.wait, 10)
    assert bench.batches == [1]
