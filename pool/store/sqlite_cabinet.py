"""The documents of a SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pool.store.cabinet import Document
from pool.store.filing import check_documents, is_filed, place_after
from pool.store.sqlite_batch import Batch
from pool.store.sqlite_part import SqlitePart
from pool.store.sqlite_rows import Reading


class SqliteCabinet(SqlitePart):
    """The part of a SQLite store that keeps documents."""

    async def put(self, kind: str, documents: Sequence[Document]) -> None:
        """See `Cabinet.put`."""
        check_documents(kind, documents)
        if documents:
            await self._write((), _put, kind, documents)

    async def replace(self, kind: str, before: bytes | None, document: Document) -> bool:
        """See `Cabinet.replace`."""
        check_documents(kind, [document])
        return await self._write((), _replace, kind, before, document)

    async def get(self, kind: str, id: str) -> bytes | None:  # noqa: A002 - the word of the protocol
        """See `Cabinet.get`."""
        return await self._read(_get, kind, id) if is_filed(kind, id) else None

    async def documents(
        self, kind: str, after: str | None, limit: int
    ) -> tuple[list[Document], str | None]:
        """See `Cabinet.documents`."""
        place = place_after(after)
        return await self._read(_documents, kind, place, limit) if is_filed(kind) else ([], None)

    async def remove(self, kind: str, id: str) -> bool:  # noqa: A002
        """See `Cabinet.remove`."""
        return is_filed(kind, id) and await self._write((), _remove, kind, id)

    async def changes(self, kind: str) -> int:
        """See `Cabinet.changes`."""
        return await self._read(_changes, kind) if is_filed(kind) else 0


# --- in the store's threads


def _put(batch: Batch, kind: str, documents: Sequence[Document]) -> None:
    batch.db.executemany(
        "INSERT INTO documents(kind, id, data) VALUES (?, ?, ?) "
        "ON CONFLICT(kind, id) DO UPDATE SET data = excluded.data",
        [(kind, *document) for document in documents],
    )
    _count_change(batch, kind)


def _replace(batch: Batch, kind: str, before: bytes | None, document: Document) -> bool:
    kept = _kept(batch.db, kind, document.id)
    if kept == document.data:
        return True
    if kept != before:
        return False
    _put(batch, kind, [document])
    return True


def _remove(batch: Batch, kind: str, document_id: str) -> bool:
    removed = batch.db.execute(
        "DELETE FROM documents WHERE kind = ? AND id = ?", (kind, document_id)
    ).rowcount
    if removed:
        _count_change(batch, kind)
    return removed > 0


def _count_change(batch: Batch, kind: str) -> None:
    batch.db.execute(
        "INSERT INTO meta(name, value) VALUES (?, 1) "
        "ON CONFLICT(name) DO UPDATE SET value = value + 1",
        (_named(kind),),
    )


def _get(reading: Reading, kind: str, document_id: str) -> bytes | None:
    return _kept(reading.db, kind, document_id)


def _kept(db: sqlite3.Connection, kind: str, document_id: str) -> bytes | None:
    row = db.execute(
        "SELECT data FROM documents WHERE kind = ? AND id = ?", (kind, document_id)
    ).fetchone()
    return None if row is None else row[0]


def _documents(
    reading: Reading, kind: str, after: str, limit: int
) -> tuple[list[Document], str | None]:
    rows = reading.db.execute(
        "SELECT id, data FROM documents WHERE kind = ? AND id > ? ORDER BY id LIMIT ?",
        (kind, after, limit + 1),
    ).fetchall()
    found = [Document(*row) for row in rows[:limit]]
    return found, found[-1].id if len(rows) > limit else None


def _changes(reading: Reading, kind: str) -> int:
    row = reading.db.execute("SELECT value FROM meta WHERE name = ?", (_named(kind),)).fetchone()
    return 0 if row is None else int(row[0])


def _named(kind: str) -> str:
    # a kind has no space, so that it never reads as something else
    return f"changes {kind}"
