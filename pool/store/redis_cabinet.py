"""The documents of a Redis store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from pool.ids import PARTITIONS
from pool.store.cabinet import Document
from pool.store.filing import check_documents, is_filed, place_after
from pool.store.redis_part import RedisPart


class _Drawer(NamedTuple):
    """Where the documents of a kind are: they share a partition."""

    partition: int
    data: str
    ids: str
    changes: str

    @property
    def keys(self) -> tuple[str, str, str]:
        return self.data, self.ids, self.changes


class RedisCabinet(RedisPart):
    """The part of a Redis store that keeps documents."""

    async def put(self, kind: str, documents: Sequence[Document]) -> None:
        """See `Cabinet.put`."""
        check_documents(kind, documents)
        if documents:
            drawer = self._drawer(kind)
            words = [word for each in documents for word in (each.id, each.data)]
            await self._scripts.run(drawer.partition, "put", drawer.keys, words)

    async def replace(self, kind: str, before: bytes | None, document: Document) -> bool:
        """See `Cabinet.replace`."""
        check_documents(kind, [document])
        drawer = self._drawer(kind)
        words = (*document,) if before is None else (*document, before)
        replaced: int = await self._scripts.run(drawer.partition, "replace", drawer.keys, words)
        return replaced == 1

    async def get(self, kind: str, id: str) -> bytes | None:  # noqa: A002 - the word of the protocol
        """See `Cabinet.get`."""
        if not is_filed(kind, id):
            return None
        drawer = self._drawer(kind)
        found: bytes | None = await self._scripts.command(drawer.partition, "HGET", drawer.data, id)
        return found

    async def documents(
        self, kind: str, after: str | None, limit: int
    ) -> tuple[list[Document], str | None]:
        """See `Cabinet.documents`."""
        words = (place_after(after), limit + 1)
        if not is_filed(kind):
            return [], None
        drawer = self._drawer(kind)
        answer = await self._scripts.run(
            drawer.partition, "documents", (drawer.data, drawer.ids), words
        )
        found = [
            Document(each.decode(), data)
            for each, data in zip(answer[::2], answer[1::2], strict=True)
        ]
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    async def remove(self, kind: str, id: str) -> bool:  # noqa: A002
        """See `Cabinet.remove`."""
        if not is_filed(kind, id):
            return False
        drawer = self._drawer(kind)
        removed: int = await self._scripts.run(drawer.partition, "remove", drawer.keys, (id,))
        return removed == 1

    async def changes(self, kind: str) -> int:
        """See `Cabinet.changes`. It grows with Redis's clock: what a failover lost is noticed."""
        if not is_filed(kind):
            return 0
        drawer = self._drawer(kind)
        return int(await self._scripts.command(drawer.partition, "GET", drawer.changes) or 0)

    def _drawer(self, kind: str) -> _Drawer:
        number = crc32(kind.encode()) % PARTITIONS
        names = (f"docs:{kind}", f"docs:{kind}:ids", f"docs:{kind}:changes")
        return _Drawer(number, *(self._keys.of_partition(number, name) for name in names))
