"""The audit log: who did what, and what came of it, so that nobody can change it unseen.

    audit = Audit(FileSink(Path("audit.jsonl")), chain=pool_name)
    await audit.open()
    audit.record("turn.accept", "accepted", principal, "turn:t1", request_id="r1")
    ...
    await audit.close()

Records wait in a bounded buffer, and one task writes what waits in one batch: `record` never waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog

from pool.errors import StoreUnavailable
from pool.guard.audit_buffer import Buffer
from pool.guard.audit_config import AuditConfig as AuditConfig
from pool.guard.audit_config import Sink as Sink
from pool.guard.audit_heads import Heads
from pool.guard.audit_notices import NOTES
from pool.guard.audit_records import (
    ALIVE,
    CLOSED,
    CUT,
    ITSELF,
    NO_HASH,
    OPENED,
    Happening,
    Head,
    Seal,
    Sealed,
)
from pool.observer import Notice, Take
from pool.store.cabinet import Cabinet
from pool.turn import Principal

# So many records are sealed and written at once: what is done in the loop for one batch is bounded.
BATCH_MAX: Final = 128

_log = structlog.get_logger("pool.guard.audit")


class Audit:
    """One chain of records, written by one process.

    `chain` names a new chain: no other may have the name. `heads`: where it is kept how far a chain
    goes, apart from its sink (None: nowhere). `wall`: seconds since the epoch.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        chain: str,
        seal: Seal | None = None,
        config: AuditConfig | None = None,
        heads: Cabinet | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sink = sink
        self._seal = seal or Seal()
        self._config = config or AuditConfig()
        self._wall = wall
        self._heads = Heads(heads, every_s=self._config.alive_s)
        self._head = Head(chain, 0, NO_HASH)
        self._waiting = Buffer(self._config.buffer_max)
        self._failing = False
        # it was told that records are lost
        self._losing = False
        self._closed = False
        self._arrived = asyncio.Event()
        self._ending = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        how = "failing, " if self._failing else ""
        return f"<Audit {self._head.chain}:{self._head.number} [{how}{len(self._waiting)} wait]>"

    @property
    def head(self) -> Head:
        """The last record that is written: to be written down elsewhere, as proof against cuts."""
        return self._head

    # --- life

    async def open(self) -> None:
        """Go on with the chain that is there, or begin one. What the sink raises."""
        found = await self._sink.open(self._head.chain)
        outcome = "new"
        if found is not None:
            self._head = found
            outcome = CUT if await self._heads.is_cut(found) else "continued"
        self._itself(OPENED, outcome, f"{self._config.alive_s:g}")
        self._writing = asyncio.get_running_loop().create_task(self._write(), name="audit log")

    async def close(self, *, grace_s: float = 5.0) -> None:
        """Write what waits and close the chain, within `grace_s`; then let go of the sink."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        self._waiting.own_up_at_the_end(self._wall())
        self._itself(CLOSED, "closed")
        self._closed = True
        self._ending.set()
        await asyncio.wait((writing,), timeout=grace_s)
        if not writing.done():
            _log.error("the audit log was not closed in time", records_lost=len(self._waiting))
            writing.cancel()
            await asyncio.wait((writing,))
        try:
            async with asyncio.timeout(grace_s):
                await self._sink.close()
                await self._heads.note(self._head)
        except StoreUnavailable as error:
            _log.error("the audit log was not closed", error=error.detail)
        except TimeoutError:
            _log.error("the audit log was not closed in time")

    # --- what happens

    def record(
        self,
        action: str,
        outcome: str,
        principal: Principal,
        subject: str = "",
        request_id: str = "",
        arguments_digest: str | None = None,
        *,
        reason: str = "",
    ) -> None:
        """Note that something happened: `principal` did `action` to `subject`, and `outcome` came
        of it, for `reason` (the code of an error, say). Does not wait.
        """
        happening = Happening(
            self._wall(),
            action,
            outcome,
            principal,
            subject,
            request_id,
            arguments_digest,
            reason,
        )
        if self._closed:
            self._lose(happening, "it is closed")
        elif not self._waiting.put(happening):
            self._lose(happening, "too many records wait to be written")
        else:
            self._arrived.set()

    def record_refusal(
        self,
        action: str,
        principal: Principal,
        subject: str = "",
        request_id: str = "",
        *,
        reason: str,
    ) -> None:
        """Note that somebody was refused. Anybody can have this said as often as they like: it is
        no unrecorded work, so that it takes half of the buffer at most, and beyond 100 a second
        only their number is noted.
        """
        happening = Happening(
            self._wall(), action, "refused", principal, subject, request_id, reason=reason
        )
        if not self._closed and self._waiting.put_refusal(happening):
            self._arrived.set()

    def digest(self, arguments: Mapping[str, Any]) -> str:
        """What to note of a tool's arguments."""
        return self._seal.digest(arguments)

    def check(self) -> None:
        """Return if turns may be taken; `StoreUnavailable` while the log cannot be written and
        nothing may go unrecorded.
        """
        if self._failing and self._config.unwritable == "refuse":
            raise StoreUnavailable(
                "the audit log cannot be written, and no turn is taken without it",
                retry_after_s=self._config.retry_s,
            )

    def notice(self, notice: Notice) -> None:
        """Be an observer of a pool: note what it takes and refuses, and whose word it was."""
        take = self.taker(type(notice))
        if take is not None:
            take(notice)

    def taker(self, kind: type[Notice]) -> Take | None:
        """See `Chooser`."""
        note = NOTES.get(kind)
        return None if note is None else partial(note, self)

    def _itself(self, action: str, outcome: str, reason: str = "") -> None:
        self._waiting.put_anyway(Happening(self._wall(), action, outcome, ITSELF, reason=reason))
        self._arrived.set()

    def _lose(self, happening: Happening, why: str) -> None:
        if not self._losing:
            _log.error("audit records are lost", why=why, first=happening.action)
        # as bad as if it could not be written
        self._losing = self._failing = True

    # --- the task that writes

    async def _write(self) -> None:
        while self._waiting or not self._closed:
            if not await self._something():
                self._itself(ALIVE, "alive", f"{self._config.alive_s:g}")
            # those that come together are written together; a full batch need not wait
            many = self._closed or len(self._waiting) >= BATCH_MAX
            await self._pause(0.0 if many else self._config.batch_s)
            await self._write_batch()

    async def _something(self) -> bool:
        """Wait for a record; False if for long there was none."""
        if not self._waiting:
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.alive_s):
                    await self._arrived.wait()
        return bool(self._waiting) or self._closed

    async def _write_batch(self) -> None:
        head, batch = self._head, []
        for happening in self._waiting.first(BATCH_MAX):
            sealed = self._seal.seal(head, happening)
            head = sealed.head
            batch.append(sealed)
        while batch and not await self._written(batch):  # noqa: ASYNC110 - to try again, not to look
            await asyncio.sleep(self._config.retry_s)
        self._head = head
        self._waiting.drop(len(batch))
        if self._failing:
            _log.warning("the audit log can be written again", records_lost=self._waiting.lost)
            self._failing = self._losing = False
        if not self._closed:
            self._waiting.own_up(self._wall())
        await self._heads.reached(head)

    async def _written(self, batch: Sequence[Sealed]) -> bool:
        try:
            await self._sink.write(batch)
        except StoreUnavailable as error:
            self._failed(error.detail)
        except Exception as error:
            # a defect; but the log must go on when it is over
            _log.exception("writing the audit log failed")
            self._failed(type(error).__name__)
        else:
            return True
        return False

    def _failed(self, error: str) -> None:
        if not self._failing:
            _log.error(
                "the audit log cannot be written",
                error=error,
                turns="are refused" if self._config.unwritable == "refuse" else "go on unrecorded",
                again_in_s=self._config.retry_s,
            )
        self._failing = True

    async def _pause(self, delay_s: float) -> None:
        if not delay_s:
            # others have their turn in any case
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._ending.wait()
