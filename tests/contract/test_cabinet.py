"""Documents: kept by kind and id, listed in order, and whoever looks sees that they changed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pool.errors import InvalidRequest
from pool.store.base import Store
from pool.store.cabinet import Document
from pool.store.filing import DOCUMENT_BYTES_MAX, DOCUMENTS_MAX
from tests.contract.stores import Opening, every_store
from tests.contract.test_ids import BAD_IDS

pytestmark = every_store

BAD_NAMES = [*BAD_IDS, "\udc80"]


def _named(*ids: str) -> list[Document]:
    """Documents that say their own names."""
    return [Document(each, each.encode()) for each in ids]


async def _listed(store: Store, kind: str, limit: int) -> list[Document]:
    """All documents of a kind, read part by part."""
    found: list[Document] = []
    after = None
    while True:
        part, after = await store.documents(kind, after, limit)
        assert len(part) <= limit
        found += part
        if after is None:
            return found


async def test_what_was_put_is_found(opening: Opening) -> None:
    """As it was given, whatever bytes it is made of; nothing else is."""
    async with opening() as (store, _):
        documents = [Document("a", b""), Document("b", bytes(range(256))), Document("c", b"3")]
        await store.put("key", documents)
        for each in documents:
            assert await store.get("key", each.id) == each.data
        assert await store.get("key", "d") is None
        assert await store.get("switch", "a") is None


async def test_a_document_takes_the_place_of_one_of_the_same_id(opening: Opening) -> None:
    """The last one counts, in one step too."""
    async with opening() as (store, _):
        await store.put("key", [Document("a", b"1"), Document("b", b"1")])
        await store.put("key", [Document("a", b"2"), Document("a", b"3")])
        assert await _listed(store, "key", 10) == [Document("a", b"3"), Document("b", b"1")]


async def test_a_document_takes_the_place_of_the_one_that_was_read(opening: Opening) -> None:
    """If that is still there, or none still is where there was none; else nothing has changed."""
    async with opening() as (store, _):
        assert await store.replace("key", None, Document("a", b"1"))
        before = await store.changes("key")
        assert not await store.replace("key", None, Document("a", b"2"))
        assert not await store.replace("key", b"0", Document("a", b"2"))
        assert not await store.replace("key", b"", Document("b", b"2"))
        assert await _listed(store, "key", 10) == [Document("a", b"1")]
        assert await store.changes("key") == before
        assert await store.replace("key", b"1", Document("a", b""))
        assert await store.changes("key") > before
        assert await store.replace("key", b"", Document("a", bytes(range(256))))
        assert await _listed(store, "key", 10) == [Document("a", bytes(range(256)))]


async def test_a_document_that_took_its_place_may_be_put_there_again(opening: Opening) -> None:
    """Who lost the answer hears that it is kept; it was no further change."""
    async with opening() as (store, _):
        await store.put("key", _named("a"))
        assert await store.replace("key", b"a", Document("a", b"b"))
        changes = await store.changes("key")
        assert await store.replace("key", b"a", Document("a", b"b"))
        assert await store.changes("key") == changes
        assert await _listed(store, "key", 10) == [Document("a", b"b")]


async def test_of_many_who_read_the_same_one_takes_its_place(opening: Opening) -> None:
    """The others are told, and nothing is lost when they read again."""
    async with opening() as (store, _):

        async def add(number: int) -> None:
            while True:
                before = await store.get("key", "a")
                added = number if before is None else number + int(before)
                if await store.replace("key", before, Document("a", b"%d" % added)):
                    return

        await asyncio.gather(*(add(2**number) for number in range(10)))
        assert await store.get("key", "a") == b"1023"


async def test_kinds_never_meet(opening: Opening) -> None:
    """Neither when they are read nor when something is removed."""
    async with opening() as (store, _):
        await store.put("key", [Document("a", b"1")])
        await store.put("key-a", [Document("a", b"2")])
        assert await store.remove("key", "a") is True
        assert await _listed(store, "key-a", 10) == [Document("a", b"2")]
        assert await _listed(store, "key", 10) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
async def test_documents_are_listed_in_the_order_of_their_ids(opening: Opening, limit: int) -> None:
    """As ASCII orders them, in parts of any size, in whatever order they came."""
    async with opening() as (store, _):
        ids = ["Z", "0010", "a", "_", "-", "0009"]
        for each in ids[:3]:
            await store.put("audit-x", _named(each))
        await store.put("audit-x", _named(*ids[3:]))
        assert await _listed(store, "audit-x", limit) == _named(*sorted(ids))


async def test_a_listing_goes_on_while_documents_come_and_go(opening: Opening) -> None:
    """Behind the place it stopped at, although that is gone; a last full part is the last."""
    async with opening() as (store, _):
        await store.put("key", _named("a", "b", "d"))
        part, after = await store.documents("key", None, 2)
        assert part == _named("a", "b")
        await store.remove("key", "b")
        await store.put("key", _named("aa", "c"))
        assert await store.documents("key", after, 2) == (_named("c", "d"), None)


@pytest.mark.parametrize("cursor", BAD_NAMES)
async def test_a_bad_place_in_the_listing_is_refused(opening: Opening, cursor: str) -> None:
    """What no listing gave is no place to go on from."""
    async with opening() as (store, _):
        await store.put("key", _named("a"))
        with pytest.raises(InvalidRequest):
            await store.documents("key", cursor, 10)


async def test_what_is_removed_is_gone(opening: Opening) -> None:
    """Once; what was never there cannot be removed."""
    async with opening() as (store, _):
        await store.put("key", _named("a", "b"))
        assert await store.remove("key", "a") is True
        assert await store.remove("key", "a") is False
        assert await store.remove("switch", "b") is False
        assert await store.get("key", "a") is None
        assert await _listed(store, "key", 10) == _named("b")


async def test_whoever_looks_sees_that_something_changed(opening: Opening) -> None:
    """The number of changes grows with each step that changed the kind, and by nothing else."""
    async with opening() as (store, _):
        assert await store.changes("key") == 0
        seen = [0]
        for _step in range(3):
            await store.put("key", _named("a", "b"))
            seen.append(await store.changes("key"))
            await store.remove("key", "a")
            seen.append(await store.changes("key"))
        assert seen == sorted(set(seen))
        await store.put("switch", _named("a"))
        await store.put("key", [])
        await store.remove("key", "a")
        await store.get("key", "b")
        await store.documents("key", None, 10)
        assert await store.changes("key") == seen[-1]
        await store.remove("key", "b")
        assert await store.changes("key") > seen[-1]


@pytest.mark.parametrize(
    "wrong",
    [Document("a b", b""), Document("", b""), Document("c", b"x" * (DOCUMENT_BYTES_MAX + 1))],
    ids=["bad id", "no id", "too large"],
)
async def test_documents_are_put_all_or_none(opening: Opening, wrong: Document) -> None:
    """If one of them is refused nothing has changed."""
    async with opening() as (store, _):
        await store.put("key", _named("a"))
        before = await store.changes("key")
        with pytest.raises(InvalidRequest):
            await store.put("key", [Document("a", b"new"), *_named("b"), wrong])
        assert await _listed(store, "key", 10) == _named("a")
        assert await store.changes("key") == before


async def test_a_document_has_a_largest_size(opening: Opening) -> None:
    """So large it is kept; the refusal of a larger one names the document."""
    async with opening() as (store, _):
        largest = b"x" * DOCUMENT_BYTES_MAX
        await store.put("key", [Document("a", largest)])
        assert await store.get("key", "a") == largest
        with pytest.raises(InvalidRequest, match="document b has 65537 bytes, more than 65536"):
            await store.put("key", [Document("b", largest + b"x")])
        with pytest.raises(InvalidRequest, match="document a has 65537 bytes, more than 65536"):
            await store.replace("key", largest, Document("a", largest + b"x"))


async def test_so_many_documents_are_put_at_once(opening: Opening) -> None:
    """As many as may be are kept in one step; more are refused, all of them."""
    async with opening() as (store, _):
        documents = _named(*(f"{number:06}" for number in range(DOCUMENTS_MAX + 1)))
        with pytest.raises(InvalidRequest, match="at most 1000 documents"):
            await store.put("audit-x", documents)
        assert await store.documents("audit-x", None, 10) == ([], None)
        await store.put("audit-x", documents[:-1])
        assert await _listed(store, "audit-x", 300) == documents[:-1]


@pytest.mark.parametrize("bad", BAD_NAMES)
async def test_nothing_is_kept_under_a_bad_name(opening: Opening, bad: str) -> None:
    """Neither as a kind nor as an id."""
    async with opening() as (store, _):
        for kind, document_id in ((bad, "a"), ("key", bad)):
            with pytest.raises(InvalidRequest):
                await store.put(kind, [Document(document_id, b"")])
            with pytest.raises(InvalidRequest):
                await store.replace(kind, None, Document(document_id, b""))
        assert await store.changes("key") == 0


@pytest.mark.parametrize("bad", BAD_NAMES)
async def test_nothing_is_found_under_a_bad_name(opening: Opening, bad: str) -> None:
    """It reads as what does not exist."""
    async with opening() as (store, _):
        await store.put("key", _named("a"))
        assert await store.get("key", bad) is None
        assert await store.get(bad, "a") is None
        assert await store.remove("key", bad) is False
        assert await store.remove(bad, "a") is False
        assert await store.documents(bad, None, 10) == ([], None)
        assert await store.changes(bad) == 0
        assert await _listed(store, "key", 10) == _named("a")


async def test_documents_do_not_age(opening: Opening) -> None:
    """However long nobody asks for them, and whatever the store tidies up meanwhile."""
    async with opening() as (store, pass_time):
        await store.put("key", _named("a"))
        for _step in range(3):
            await pass_time(store.lease_s)
            store.tick()
        assert await store.get("key", "a") == b"a"
        assert await store.changes("key") > 0


async def test_many_may_put_at_once(opening: Opening) -> None:
    """All of it is kept, and each step is seen as a change."""
    async with opening() as (store, _):
        seen: list[int] = []

        async def put(documents: Sequence[Document]) -> None:
            await store.put("audit-x", documents)
            seen.append(await store.changes("audit-x"))

        parts = [_named(f"{number:03}a", f"{number:03}b") for number in range(30)]
        before = await store.changes("audit-x")
        await asyncio.gather(*map(put, parts))
        assert await _listed(store, "audit-x", 7) == [each for part in parts for each in part]
        assert min(seen) > before
        assert await store.changes("audit-x") >= before + len(parts)
