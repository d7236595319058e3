"""The documents of a memory store."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from pool.errors import StoreUnavailable
from pool.store.cabinet import Document
from pool.store.filing import check_documents, place_after

# What a document is counted with, besides its bytes: about what it takes.
_BYTES: Final = 256


class Drawer(Struct, eq=False):
    """The documents of one kind."""

    data: dict[str, bytes] = {}
    # in order
    ids: list[str] = []
    changes: int = 0


class Drawers:
    """All documents, up to so many bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._drawers: dict[str, Drawer] = {}
        self.size = 0

    def __repr__(self) -> str:
        return f"<Drawers {len(self._drawers)} kinds, {self.size} bytes>"

    def drawer(self, kind: str) -> Drawer:
        """The documents of a kind; of one that is not known an empty drawer, kept nowhere."""
        return self._drawers.get(kind) or Drawer()

    def put(self, kind: str, documents: Sequence[Document]) -> None:
        """Keep these; `StoreUnavailable`, and none is kept, if there is no room."""
        new = dict(documents)
        drawer = self.drawer(kind)
        old = {each: drawer.data[each] for each in new if each in drawer.data}
        more = _size(new) - _size(old)
        if more > 0 and self.size + more > self._max_bytes:
            raise StoreUnavailable(
                "the memory store has no room for more documents (API keys, audit log): "
                "raise memory.max_bytes, or use a store with a disk"
            )
        self._drawers[kind] = drawer
        for each in new.keys() - old.keys():
            insort(drawer.ids, each)
        drawer.data.update(new)
        drawer.changes += 1
        self.size += more

    def remove(self, kind: str, document_id: str) -> bool:
        """Forget one; whether there was one."""
        drawer = self.drawer(kind)
        data = drawer.data.pop(document_id, None)
        if data is None:
            return False
        del drawer.ids[bisect_left(drawer.ids, document_id)]
        drawer.changes += 1
        self.size -= _size({document_id: data})
        return True


class MemoryCabinet:
    """The part of a memory store that keeps documents."""

    _drawers: Drawers

    async def put(self, kind: str, documents: Sequence[Document]) -> None:
        """See `Cabinet.put`. `StoreUnavailable` if there is no room."""
        check_documents(kind, documents)
        if documents:
            self._drawers.put(kind, documents)

    async def replace(self, kind: str, before: bytes | None, document: Document) -> bool:
        """See `Cabinet.replace`. `StoreUnavailable` if there is no room."""
        check_documents(kind, [document])
        kept = self._drawers.drawer(kind).data.get(document.id)
        if kept == document.data:
            return True
        if kept != before:
            return False
        self._drawers.put(kind, [document])
        return True

    async def get(self, kind: str, id: str) -> bytes | None:  # noqa: A002 - the word of the protocol
        """See `Cabinet.get`."""
        return self._drawers.drawer(kind).data.get(id)

    async def documents(
        self, kind: str, after: str | None, limit: int
    ) -> tuple[list[Document], str | None]:
        """See `Cabinet.documents`."""
        drawer = self._drawers.drawer(kind)
        first = bisect_right(drawer.ids, place_after(after))
        ids = drawer.ids[first : first + limit]
        more = first + limit < len(drawer.ids)
        return [Document(each, drawer.data[each]) for each in ids], ids[-1] if more else None

    async def remove(self, kind: str, id: str) -> bool:  # noqa: A002
        """See `Cabinet.remove`."""
        return self._drawers.remove(kind, id)

    async def changes(self, kind: str) -> int:
        """See `Cabinet.changes`."""
        return self._drawers.drawer(kind).changes


def _size(documents: dict[str, bytes]) -> int:
    return sum(_BYTES + len(data) for data in documents.values())
