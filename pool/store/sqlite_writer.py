"""Does the jobs that wait for the SQLite store: all writes in one transaction, then all reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

from pool.errors import PoolError
from pool.store.limits import Retention
from pool.store.sqlite_batch import Batch
from pool.store.sqlite_errors import as_pool_error, blames_no_job
from pool.store.sqlite_file import generation_of
from pool.store.sqlite_owners import Owners, Telling
from pool.store.sqlite_record import SessionRecord
from pool.store.sqlite_rows import Reading
from pool.store.sqlite_worker import Job, Outcome

# How many sessions are kept at hand as they are in the file.
KNOWN_MAX: Final = 1_000


class Writer:
    """Runs batches of jobs on one connection, in the thread that has it.

    A job's own error is its answer. What goes wrong with the transaction is the answer of all jobs
    in it, and nothing of them is kept; but if only one may be to blame, each has one of its own.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        clock: Callable[[], float],
        owners: Owners,
        retention: Retention,
    ) -> None:
        self._db = db
        self._clock = clock
        self._owners = owners
        self._retention = retention
        # sessions as they are in the file, by name (None: there is none), and its version then
        self._known: dict[str, SessionRecord | None] = {}
        self._version = 0

    def __call__(self, jobs: Sequence[Job]) -> Outcome:
        """The answers of all jobs, and whom to nudge."""
        writes = [job for job in jobs if job.names is not None]
        if len(writes) == len(jobs):
            return self._write(writes)
        written = self._write(writes) if writes else Outcome(())
        reads = self._read([job for job in jobs if job.names is None])
        values, answers = iter(written.values), iter(reads)
        merged = [next(answers if job.names is None else values) for job in jobs]
        return Outcome(merged, written.tellings)

    # --- writing

    def _write(self, jobs: Sequence[Job]) -> Outcome:
        try:
            return self._transaction(jobs, careful=False)
        except Exception as error:
            if blames_no_job(error):
                return Outcome([as_pool_error(error) for _ in jobs])
            return self._one_by_one(jobs)

    def _one_by_one(self, jobs: Sequence[Job]) -> Outcome:
        values: list[Any] = []
        tellings: list[Telling] = []
        for job in jobs:
            try:
                outcome = self._transaction([job], careful=True)
            except Exception as error:
                values.append(as_pool_error(error))
            else:
                values += outcome.values
                tellings += outcome.tellings
        return Outcome(values, tellings)

    def _transaction(self, jobs: Sequence[Job], *, careful: bool) -> Outcome:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            if not self._owners.exclusive:
                # the server may be another one than before
                self._owners.generation = generation_of(db)
            batch = Batch(
                db,
                now=self._clock(),
                owners=self._owners,
                retention=self._retention,
                known=self._still_known(),
                careful=careful,
            )
            batch.load([name for job in jobs for name in job.names or ()])
            values = [_value(job, batch) for job in jobs]
            batch.settle()
            db.execute("COMMIT")
        except BaseException:
            # what was changed here is not in the file
            self._known.clear()
            # some errors have ended it already
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return Outcome(values, batch.tellings)

    def _still_known(self) -> dict[str, SessionRecord | None]:
        """The sessions that need not be read again: nobody else has written since."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version or len(self._known) > KNOWN_MAX:
            self._known.clear()
            self._version = version
        return self._known

    # --- reading

    def _read(self, jobs: Sequence[Job]) -> list[Any]:
        db = self._db
        try:
            db.execute("BEGIN")
        except sqlite3.Error as error:
            return [as_pool_error(error) for _ in jobs]
        try:
            reading = Reading(db, now=self._clock(), session_ttl_s=self._retention.session_ttl_s)
            return [_answer(job, reading) for job in jobs]
        finally:
            db.execute("ROLLBACK")


def _value(job: Job, batch: Batch) -> Any:
    try:
        return job.run(batch, *job.arguments)
    except PoolError as error:
        return error


def _answer(job: Job, reading: Reading) -> Any:
    try:
        return job.run(reading, *job.arguments)
    except Exception as error:
        return as_pool_error(error)
