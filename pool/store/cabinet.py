"""Small documents that belong to no session: API keys, switches, the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Document(NamedTuple):
    """A document of a kind, by its id. Ids and kinds match `ID_PATTERN`."""

    id: str
    data: bytes


class Cabinet(Protocol):
    """The part of a store that keeps documents, by kind and id."""

    async def put(self, kind: str, documents: Sequence[Document]) -> None:
        """Keep these, each in the place of one of the same id; all or none."""

    async def replace(self, kind: str, before: bytes | None, document: Document) -> bool:
        """Keep a document in the place of this one of the same id (None: where there is none);
        False, and nothing has changed, if another is kept. True if it is kept already: to do it
        again does no harm.
        """

    async def get(self, kind: str, id: str) -> bytes | None:  # noqa: A002 - the word of the protocol
        """The document; None if there is none."""

    async def documents(
        self, kind: str, after: str | None, limit: int
    ) -> tuple[list[Document], str | None]:
        """Documents of a kind in the order of their ids, and where the next part begins (None: the
        end).
        """

    async def remove(self, kind: str, id: str) -> bool:  # noqa: A002
        """Forget a document; False if there was none."""

    async def changes(self, kind: str) -> int:
        """A number that grows whenever a document of the kind is put or removed: who saw it
        unchanged need not look at the documents.
        """
