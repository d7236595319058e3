"""The audit log in a store: one document a record, and one of each chain's head.

The records of a chain are documents of the kind `audit-<chain>`; the kind `audit` says which chains
there are and how far each goes, so that a chain that was cut short is found out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Final

import msgspec

from pool.errors import StoreUnavailable
from pool.guard.audit_records import Head, Sealed, head_of
from pool.ids import check_id
from pool.store.cabinet import Cabinet, Document
from pool.store.filing import documents_of

_HEADS: Final = "audit"


class StoreSink:
    """Adds records to a store. Only one process at a time may write a chain."""

    def __init__(self, cabinet: Cabinet) -> None:
        self._cabinet = cabinet

    async def open(self, chain: str) -> Head | None:
        """The head of the chain; None if there is no such chain yet. `InvalidRequest` if it cannot
        be the name of one.
        """
        check_id(_kind(chain), "the name of the audit chain")
        found = await self._cabinet.get(_HEADS, chain)
        head = None if found is None else _decode_head(found)
        # records are written before their head: a crash may have come in between
        after = None if head is None else _id(head.number)
        async for document in documents_of(self._cabinet, _kind(chain), after):
            head = head_of(document.data) or head
        return head

    async def write(self, records: Sequence[Sealed]) -> None:
        """Add records, of one chain; `StoreUnavailable` if that cannot be done: to do it again does
        no harm.
        """
        head = records[-1].head
        documents = [Document(_id(record.head.number), record.line) for record in records]
        await self._cabinet.put(_kind(head.chain), documents)
        await self._cabinet.put(_HEADS, [Document(head.chain, msgspec.json.encode(head))])

    async def close(self) -> None:
        """Nothing: the store is somebody else's."""


async def heads(cabinet: Cabinet) -> list[Head]:
    """How far each chain goes; `StoreUnavailable` if that cannot be read."""
    return [_decode_head(each.data) async for each in documents_of(cabinet, _HEADS)]


async def lines_of(cabinet: Cabinet, chain: str) -> AsyncGenerator[tuple[str, bytes], None]:
    """The lines of a chain in order, each with its place, for a person."""
    number = 0
    async for document in documents_of(cabinet, _kind(chain)):
        number += 1
        yield f"record {number} of {_kind(chain)}", document.data


def _kind(chain: str) -> str:
    return f"{_HEADS}-{chain}"


def _id(number: int) -> str:
    return f"{number:020d}"


def _decode_head(data: bytes) -> Head:
    try:
        return msgspec.json.decode(data, type=Head)
    except msgspec.DecodeError:
        raise StoreUnavailable("the head of an audit chain in the store cannot be read") from None
