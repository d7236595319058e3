"""Webhooks that are still to be delivered, in the SQLite store."""

from __future__ import annotations

from collections.abc import Sequence

from pool.store.outbox import Delivery
from pool.store.sqlite_batch import Batch
from pool.store.sqlite_find import turn_by_id


def take(batch: Batch, limit: int, hold_s: float) -> Sequence[Delivery]:
    """See `Outbox.take_deliveries`."""
    batch.settle()
    rows = batch.db.execute(
        "SELECT turns.id, deliveries.tries, deliveries.turn FROM deliveries "
        "JOIN turns ON turns.place = deliveries.turn "
        "JOIN sessions ON sessions.num = deliveries.turn >> 32 "
        "WHERE deliveries.due <= ? ORDER BY deliveries.due, deliveries.turn LIMIT ?",
        (batch.now, limit),
    ).fetchall()
    due = batch.now + hold_s
    batch.db.executemany(
        "UPDATE deliveries SET due = ? WHERE turn = ?", [(due, place) for _, _, place in rows]
    )
    return [Delivery(turn_id, tries) for turn_id, tries, _ in rows]


def put_off(batch: Batch, turn_id: str, delay_s: float) -> None:
    """See `Outbox.put_off`."""
    batch.settle()
    row = turn_by_id(batch.db, turn_id)
    if row is not None:
        batch.db.execute(
            "UPDATE deliveries SET due = ?, tries = tries + 1 WHERE turn = ?",
            (batch.now + delay_s, row.place),
        )


def settle(batch: Batch, turn_id: str) -> None:
    """See `Outbox.settle`."""
    batch.settle()
    row = turn_by_id(batch.db, turn_id)
    if row is not None:
        batch.db.execute("DELETE FROM deliveries WHERE turn = ?", (row.place,))
