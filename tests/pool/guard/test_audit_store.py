"""The audit log in a store: a chain of documents, and how far it goes."""

from __future__ import annotations

import pytest

from pool.errors import InvalidRequest, StoreUnavailable
from pool.guard.audit import Audit
from pool.guard.audit_chain import Checker
from pool.guard.audit_records import Seal
from pool.guard.audit_store import StoreSink, heads, lines_of
from pool.store.cabinet import Cabinet, Document
from pool.store.memory import MemoryStore
from pool.turn import ANYONE


async def life(cabinet: Cabinet, turns: int = 1, chain: str = "p1") -> Audit:
    """A process writes a chain, from its beginning to its end."""
    audit = Audit(StoreSink(cabinet), chain=chain, wall=lambda: 1.0)
    await audit.open()
    for _ in range(turns):
        audit.record("turn.accept", "accepted", ANYONE)
    await audit.close()
    return audit


async def findings(cabinet: Cabinet) -> list[str]:
    """What is wrong with the chains of a store."""
    checker = Checker(Seal())
    for head in await heads(cabinet):
        checker.expect(head)
        async for place, line in lines_of(cabinet, head.chain):
            checker.read(place, line)
    checker.end(1.0)
    return [f"{finding.chain}: {finding.detail}" for finding in checker.findings]


async def test_a_chain_goes_on_in_its_store() -> None:
    """Through two lives of a process, next to another's chain."""
    store = MemoryStore()
    await life(store)
    again = await life(store)
    await life(store, turns=1_200, chain="p2")
    assert await heads(store) == [again.head, ("p2", 1_202, (await heads(store))[1].hash)]
    assert again.head.number == 6
    assert await findings(store) == []


async def test_a_chain_goes_on_after_a_crash_between_records_and_head() -> None:
    """The records count, not what was noted of them before."""
    store = MemoryStore()
    await life(store)
    noted = await store.get("audit", "p1")
    assert noted is not None
    await life(store)
    await store.put("audit", [Document("p1", noted)])
    again = await life(store)
    assert again.head.number == 9
    assert await findings(store) == []


async def test_a_chain_that_was_cut_short_is_found() -> None:
    """The head that was noted apart from it is not reached; nor if all of it was removed."""
    store = MemoryStore()
    await life(store)
    await store.remove("audit-p1", f"{3:020d}")
    assert await findings(store) == ["p1: record 3 is missing at the end"]
    for number in (1, 2):
        await store.remove("audit-p1", f"{number:020d}")
    assert await findings(store) == ["p1: records 1 to 3 are missing at the end"]


async def test_a_changed_document_is_found() -> None:
    """Whoever writes to the store itself."""
    store = MemoryStore()
    await life(store)
    line = await store.get("audit-p1", f"{2:020d}")
    assert line is not None
    await store.put("audit-p1", [Document(f"{2:020d}", line.replace(b"accepted", b"rejected"))])
    assert await findings(store) == ["p1: record 2 is not as it was written"]


async def test_a_head_that_cannot_be_read_is_said() -> None:
    """Neither does the chain go on, nor is it checked."""
    store = MemoryStore()
    await store.put("audit", [Document("p1", b"?")])
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await life(store)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await findings(store)


@pytest.mark.parametrize("name", ["a b", "n" * 59, "\udc80"])
async def test_a_name_that_makes_no_kind_is_refused(name: str) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidRequest, match="audit chain"):
        await life(MemoryStore(), chain=name)
