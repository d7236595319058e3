"""A thread that does what is asked of it in batches, and tells the loop once a batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

import structlog

from pool.errors import StoreUnavailable
from pool.store.sqlite_errors import as_pool_error
from pool.store.sqlite_owners import Telling

_log = structlog.get_logger("pool.store.sqlite")

# A batch is no larger, so that what it holds in memory and how long it takes are bounded.
BATCH_MAX: Final = 500


# what a named tuple's own constructor does, in half the time
_new = tuple.__new__


class Job(NamedTuple):
    """Something to be done: `run(*arguments)`, with what the thread puts before them.

    `names`: the sessions it writes to; None: it only reads.
    """

    done: asyncio.Future[Any]
    names: tuple[str, ...] | None
    run: Callable[..., Any]
    arguments: tuple[Any, ...]


class Outcome(NamedTuple):
    """What came of a batch: a value or an error for each job, and who is to be nudged."""

    values: Sequence[Any]
    tellings: Sequence[Telling] = ()


class Worker:
    """Gives the jobs that wait, all together, to `work`, in a thread of its own.

    `work` answers for each of them. What it raises itself fails them all.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Job]], Outcome],
        tell: Callable[[Sequence[Telling]], None],
    ) -> None:
        self._work = work
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        # None: there is nothing more to come
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._broken: StoreUnavailable | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(
        self, names: tuple[str, ...] | None, run: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        """Have a job done; `StoreUnavailable` if the thread has ended."""
        if self._broken is not None:
            raise self._broken
        done = self._loop.create_future()
        self._jobs.put(_new(Job, (done, names, run, arguments)))
        return done

    async def close(self) -> None:
        """Do what has been asked for, then end."""
        if self._broken is None:
            self._broken = StoreUnavailable("the store is closed")
            self._jobs.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    # --- in the thread

    def _run(self) -> None:
        more = True
        jobs: list[Job] = []
        try:
            while more:
                jobs, more = self._next()
                self._answer(jobs, self._outcome(jobs))
        except BaseException as error:
            # the thread is lost: whoever waits, or comes, is told so
            self._call(self._break, error, jobs)
        else:
            self._call(self._ended.set_result, None)

    def _next(self) -> tuple[list[Job], bool]:
        """All that waits, once there is anything; and whether more may come."""
        found = [self._jobs.get()]
        more = min(self._jobs.qsize(), BATCH_MAX - 1)
        found += [self._jobs.get_nowait() for _ in range(more)]
        jobs = [job for job in found if job is not None]
        return jobs, len(jobs) == len(found)

    def _outcome(self, jobs: Sequence[Job]) -> Outcome:
        try:
            return self._work(jobs)
        except Exception as error:
            return Outcome([as_pool_error(error)] * len(jobs))

    def _answer(self, jobs: Sequence[Job], outcome: Outcome) -> None:
        if jobs:
            self._call(self._resolve, jobs, outcome)

    def _call(self, callback: Callable[..., object], *arguments: object) -> None:
        # a loop that was closed has nobody who waits
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    # --- in the loop

    def _resolve(self, jobs: Sequence[Job], outcome: Outcome) -> None:
        for job, value in zip(jobs, outcome.values, strict=True):
            done = job.done
            if done.done():
                # whoever asked has left
                continue
            if isinstance(value, Exception):
                done.set_exception(value)
            else:
                done.set_result(value)
        if outcome.tellings:
            self._tell(outcome.tellings)

    def _break(self, error: BaseException, jobs: Sequence[Job]) -> None:
        _log.error("the store's thread has ended", error=type(error).__name__)
        broken = StoreUnavailable("the store's thread has ended; restart the server")
        broken.__cause__ = error
        self._broken = broken
        lost = list(jobs)
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is not None:
                lost.append(job)
        self._resolve(lost, Outcome([broken] * len(lost)))
        if not self._ended.done():
            self._ended.set_result(None)
