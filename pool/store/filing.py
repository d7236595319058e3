"""What every cabinet asks of documents before it keeps them, and how all of a kind are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from pool.errors import InvalidRequest
from pool.ids import check_id
from pool.store.cabinet import Cabinet, Document

# How large a document may be, in bytes, and how many of them one step keeps.
DOCUMENT_BYTES_MAX: Final = 64 * 1024
DOCUMENTS_MAX: Final = 1_000
# So many are read at once: what is done in the loop for them is bounded.
_PAGE: Final = 500


def check_documents(kind: str, documents: Sequence[Document]) -> None:
    """`InvalidRequest` if the kind or an id is none, or there are too many or too large ones."""
    check_id(kind, "kind")
    if len(documents) > DOCUMENTS_MAX:
        raise InvalidRequest(
            f"at most {DOCUMENTS_MAX} documents are put at once: put the others in a further step",
            field="documents",
        )
    for document in documents:
        check_id(document.id, "id")
        if len(document.data) > DOCUMENT_BYTES_MAX:
            raise InvalidRequest(
                f"document {document.id} has {len(document.data)} bytes, "
                f"more than {DOCUMENT_BYTES_MAX}",
                field="data",
            )


def is_filed(*names: str) -> bool:
    """Whether something may be kept under this kind and id; if not, there is nothing."""
    try:
        for name in names:
            check_id(name, "id")
    except InvalidRequest:
        return False
    return True


def place_after(after: str | None) -> str:
    """The id behind which a part of a listing begins ("": the beginning); `InvalidRequest` if it
    is no cursor.
    """
    return "" if after is None else check_id(after, "cursor")


async def documents_of(
    cabinet: Cabinet, kind: str, after: str | None = None
) -> AsyncGenerator[Document, None]:
    """All documents of a kind behind an id, in the order of their ids, however many there are."""
    while True:
        documents, after = await cabinet.documents(kind, after, _PAGE)
        for document in documents:
            yield document
        if after is None:
            return
        # a store in memory never waits: others have their turn in between
        await asyncio.sleep(0)
