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

    The thread is given a batch when it has done the one before. It never looks for jobs itself:
    each look would take the interpreter from the loop, which is about to ask for more.
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
        self._waiting: list[Job] = []
        # whether the thread has a batch, or will be given one in this turn of the loop
        self._busy = False
        # None: there is nothing more to come
        self._batches: SimpleQueue[list[Job] | None] = SimpleQueue()
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
        self._waiting.append(_new(Job, (done, names, run, arguments)))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)
        return done

    async def close(self) -> None:
        """Do what has been asked for, then end."""
        if self._broken is None:
            self._broken = StoreUnavailable("the store is closed")
            if not self._busy:
                self._hand_over()
        await asyncio.shield(self._ended)
        self._thread.join()

    # --- in the thread

    def _run(self) -> None:
        jobs: Sequence[Job] | None = None
        try:
            while (jobs := self._batches.get()) is not None:
                self._call(self._done, jobs, self._outcome(jobs))
        except BaseException as error:
            # the thread is lost: whoever waits, or comes, is told so
            self._call(self._break, error, jobs or ())
        else:
            self._call(self._ended.set_result, None)

    def _outcome(self, jobs: Sequence[Job]) -> Outcome:
        try:
            return self._work(jobs)
        except Exception as error:
            return Outcome([as_pool_error(error)] * len(jobs))

    def _call(self, callback: Callable[..., object], *arguments: object) -> None:
        # a loop that was closed has nobody who waits
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)

    # --- in the loop

    def _hand_over(self) -> None:
        jobs = self._waiting[:BATCH_MAX]
        del self._waiting[:BATCH_MAX]
        self._busy = bool(jobs)
        if jobs:
            self._batches.put(jobs)
        elif self._broken is not None:
            self._batches.put(None)

    def _done(self, jobs: Sequence[Job], outcome: Outcome) -> None:
        self._resolve(jobs, outcome)
        # after those who were just answered, and may have more to ask for
        self._loop.call_soon(self._hand_over)

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
        lost = [*jobs, *self._waiting]
        self._waiting.clear()
        self._resolve(lost, Outcome([broken] * len(lost)))
        if not self._ended.done():
            self._ended.set_result(None)
