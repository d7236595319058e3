"""How far an audit log goes, said apart from it: who cuts off its end cannot take that back."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from pool.errors import PoolError
from pool.guard.audit_records import Head
from pool.store.cabinet import Cabinet, Document

_KIND: Final = "auditfile"

_log = structlog.get_logger("pool.guard.audit")


class Heads:
    """Says the head of a chain in the process's own log, and keeps it in a cabinet if there is one:
    when it is told to, and on the way every `every_s` seconds.
    """

    def __init__(self, cabinet: Cabinet | None, *, every_s: float) -> None:
        self._cabinet = cabinet
        self._every_s = every_s
        self._said_at = float("-inf")

    async def is_cut(self, found: Head) -> bool:
        """Whether a chain that is gone on with ends before, or otherwise than, what was kept."""
        _say(found, "the audit log goes on after this record")
        kept = None if self._cabinet is None else await kept_head(self._cabinet, found.chain)
        if kept is None or kept.number < found.number or kept == found:
            return False
        _log.error(
            "the audit log was changed while nobody wrote it",
            chain=found.chain,
            ends_after=found.number,
            went_to=kept.number,
            remedy="records were removed: actorpool audit verify, and ask who could write the file",
        )
        return True

    async def reached(self, head: Head) -> None:
        """The chain goes so far now."""
        if asyncio.get_running_loop().time() - self._said_at >= self._every_s:
            await self.note(head)

    async def note(self, head: Head) -> None:
        """Say it, and keep it. A cabinet that is away is no reason to write no more."""
        self._said_at = asyncio.get_running_loop().time()
        if not head.number:
            return
        _say(head, "the audit log goes so far")
        if self._cabinet is None:
            return
        try:
            await self._cabinet.put(_KIND, [Document(head.chain, msgspec.json.encode(head))])
        except PoolError as error:
            _log.warning("how far the audit log goes is not in the store", error=error.code)


async def kept_head(cabinet: Cabinet, chain: str) -> Head | None:
    """The head of a chain that is kept apart from its file; None if there is none. What a cabinet
    raises.
    """
    found = await cabinet.get(_KIND, chain)
    try:
        return None if found is None else msgspec.json.decode(found, type=Head)
    except msgspec.DecodeError:
        # somebody changed it: no head is as far as this
        return Head(chain, 2**63, "")


def _say(head: Head, event: str) -> None:
    # as `actorpool audit verify --head` takes it
    _log.info(event, head=f"{head.chain}:{head.number}:{head.hash}")
