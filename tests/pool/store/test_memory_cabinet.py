"""Documents in memory: bounded, and counted as they come and go."""

from __future__ import annotations

import pytest

from pool.errors import StoreUnavailable
from pool.store.cabinet import Document
from pool.store.memory import MemoryStore
from pool.store.memory_cabinet import Drawers
from pool.store.memory_limits import MemoryLimits


async def test_a_full_store_takes_no_more_documents() -> None:
    """They get a quarter of its bytes; what does not fit is refused whole, with a remedy."""
    store = MemoryStore(limits=MemoryLimits(max_bytes=4 * 10_000))
    await store.put("key", [Document("a", b"x" * 4_000), Document("b", b"x" * 4_000)])
    before = await store.changes("key")
    with pytest.raises(StoreUnavailable, match=r"raise memory\.max_bytes"):
        await store.put("key", [Document("c", b"x"), Document("d", b"x" * 4_000)])
    assert await store.get("key", "c") is None
    assert await store.changes("key") == before


async def test_a_full_store_may_be_made_emptier() -> None:
    """A smaller document takes the place of a larger one, and what was removed leaves room."""
    store = MemoryStore(limits=MemoryLimits(max_bytes=4 * 10_000))
    await store.put("key", [Document("a", b"x" * 4_700), Document("b", b"x" * 4_700)])
    await store.put("key", [Document("a", b"y" * 4_700)])
    with pytest.raises(StoreUnavailable):
        await store.put("switch", [Document("c", b"")])
    await store.put("key", [Document("a", b"")])
    await store.put("switch", [Document("c", b"")])
    await store.remove("key", "b")
    await store.put("switch", [Document("d", b"x" * 4_700)])


def test_what_is_gone_takes_no_room() -> None:
    """After whatever was put, replaced and removed nothing is counted that is not there."""
    drawers = Drawers(100_000)
    drawers.put("key", [Document("a", b"x" * 10), Document("b", b"")])
    drawers.put("key", [Document("a", b"x" * 20), Document("a", b"")])
    assert drawers.remove("key", "a")
    assert not drawers.remove("key", "a")
    assert drawers.remove("key", "b")
    assert repr(drawers) == "<Drawers 1 kinds, 0 bytes>"
