from __future__ import annotations

import asyncio
from hashlib import sha256

import msgspec
import pytest
from structlog.testing import capture_logs

from pool.errors import InvalidRequest, StoreUnavailable
from pool.guard.api_key import is_key
from pool.guard.caller import BadCredential, with_included
from pool.guard.keys import ApiKeys
from pool.store.cabinet import Document
from pool.store.memory import MemoryStore
from pool.turn import Principal

NOW = 1_700_000_000.0


class Clock:
    """A time of day that stands still until it is moved."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Counting(MemoryStore):
    """A store that counts how often it is asked for a document, and can be away."""

    def __init__(self):
        super().__init__()
        self.gets = 0
        self.listings = 0
        self.away = False
        self.hold = None
        self.hold_listing = None

    async def get(self, kind, id):  # noqa: A002 - the word of the protocol
        self.gets += 1
        if self.away:
            raise StoreUnavailable("the store is away")
        data = await super().get(kind, id)
        if self.hold is not None:
            await self.hold.wait()
        return data

    async def documents(self, kind, after, limit):
        self.listings += 1
        found = await super().documents(kind, after, limit)
        if self.hold_listing is not None:
            await self.hold_listing.wait()
        return found


async def refused(keys, text):
    """Why a key is refused."""
    with pytest.raises(BadCredential) as caught:
        await keys.verify(text)
    return str(caught.value)


async def test_a_key_says_who_calls():
    """The text that its maker was shown is its tenant, user and roles."""
    keys = ApiKeys(MemoryStore(), wall=Clock())
    made = await keys.create(tenant="acme", user="ann", roles=("operator",), name="laptop")
    caller = await keys.verify(made.text)
    assert caller.principal == Principal("acme", "ann", ("user", "operator"))
    assert caller.credential == f"key:{made.key.id}"
    assert is_key(caller.credential)
    assert caller.expires_at is None


async def test_a_key_has_256_random_bits_and_is_kept_by_its_hash():
    """What the store has is no help to whoever reads it."""
    store = MemoryStore()
    made = await ApiKeys(store).create()
    prefix, key_id, secret = made.text.split("_", 2)
    assert (prefix, key_id) == ("ap", made.key.id)
    assert len(secret) == 43
    data = await store.get("key", made.key.id)
    assert data is not None and secret.encode() not in data
    assert made.key.digest == sha256(secret.encode()).digest()
    assert secret not in repr(made.key)
    assert made.key.digest not in dict(made.key.__rich_repr__()).values()


async def test_a_key_without_a_user_is_one_of_its_own():
    """Two of them are told apart."""
    keys = ApiKeys(MemoryStore())
    first, second = await keys.create(), await keys.create()
    assert first.key.user == f"key-{first.key.id}" != second.key.user


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ap_",
        "ap__",
        "xx_0123456789abcdef_secret",
        "ap_0123456789abcdef",
        "ap_0123456789ABCDEF_secret",
        "ap_../../etc/passwd_secret",
        "ap_0123456789abcde*_secret",
        "ap_0123456789abcdef_" + "x" * 200,
        "ap_0123456789abcdef_s\u00e9cret",
    ],
)
async def test_what_is_no_key_is_not_looked_for(text):
    """The store is not asked for what cannot be there, and nothing is quoted."""
    store = Counting()
    assert await refused(ApiKeys(store), text) == "this is no API key"
    assert store.gets == 0


async def test_a_wrong_secret_is_told_like_an_unknown_key():
    """Nobody learns which ids there are."""
    keys = ApiKeys(MemoryStore())
    made = await keys.create()
    wrong = await refused(keys, made.text[:-1] + ("x" if made.text[-1] != "x" else "y"))
    unknown = await refused(keys, "ap_0123456789abcdef_" + "x" * 43)
    assert wrong == unknown


async def test_a_key_that_was_found_good_is_remembered():
    """By who shows all of it; neither its id nor a wrong secret is enough, and others have to be
    verified first.
    """
    keys = ApiKeys(MemoryStore())
    made = await keys.create()
    assert keys.remembered(made.text) is None
    caller = await keys.verify(made.text)
    assert keys.remembered(made.text) is caller
    await refused(keys, made.text + "x")
    for text in ("", made.key.id, made.text[:-1], made.text + "x", "ap_\udc80"):
        assert keys.remembered(text) is None


async def test_a_key_is_remembered_no_longer_than_it_counts():
    """It ends, is withdrawn here, or is withdrawn elsewhere."""
    clock, store = Clock(), MemoryStore()
    keys = ApiKeys(store, wall=clock)
    ends, here, there = [await keys.create(expires_in_s=each) for each in (10, None, None)]
    await keys.refresh()
    for made in (ends, here, there):
        await keys.verify(made.text)
    clock.now += 10
    assert keys.remembered(ends.text) is None
    assert keys.remembered(here.text) is not None
    await keys.revoke(here.key.id)
    assert keys.remembered(here.text) is None
    await keys.verify(there.text)
    assert keys.remembered(there.text) is not None
    await ApiKeys(store).revoke(there.key.id)
    await keys.refresh()
    assert keys.remembered(there.text) is None
    assert "unknown" in await refused(keys, there.text)


async def test_a_key_that_is_withdrawn_while_it_is_verified_is_not_remembered():
    """Who asked before that is let in, and nobody after it."""
    store = Counting()
    keys = ApiKeys(store)
    made = await keys.create()
    store.hold = asyncio.Event()
    asking = asyncio.ensure_future(keys.verify(made.text))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await keys.revoke(made.key.id)
    store.hold.set()
    await asyncio.wait([asking])
    await keys.refresh()
    assert keys.remembered(made.text) is None
    assert "unknown" in await refused(keys, made.text)


async def test_a_key_ends_when_it_was_to():
    """From that moment on it is refused, known here or not."""
    clock = Clock()
    keys = ApiKeys(MemoryStore(), wall=clock)
    made = await keys.create(expires_in_s=10)
    clock.now += 9
    assert (await keys.verify(made.text)).expires_at == NOW + 10
    clock.now += 1
    assert "expired" in await refused(keys, made.text)
    assert not await keys.counts(f"key:{made.key.id}")


@pytest.mark.parametrize(
    "options",
    [
        {"tenant": "../x"},
        {"tenant": ""},
        {"user": "a b"},
        {"user": "x" * 200},
        {"roles": ("a b",)},
        {"name": "x" * 200},
        {"expires_in_s": 0},
        {"expires_in_s": float("nan")},
        {"expires_in_s": float("inf")},
        {"expires_in_s": 8_639_999_913_600.0},
    ],
)
async def test_a_key_that_cannot_be_is_not_made(options):
    """The operator is told what is wrong, and nothing is kept."""
    store = MemoryStore()
    with pytest.raises(InvalidRequest):
        await ApiKeys(store).create(**options)
    assert await store.documents("key", None, 10) == ([], None)


async def test_a_withdrawn_key_is_told_to_whoever_follows():
    """Another process learns of it when it looks, and what was open with it can be closed."""
    store = MemoryStore()
    here, there = ApiKeys(store), ApiKeys(store)
    made, other = await here.create(), await here.create()
    await there.refresh()
    assert await there.verify(made.text)
    assert await here.revoke(made.key.id) is True
    assert list(await there.refresh()) == [f"key:{made.key.id}"]
    assert "withdrawn" in await refused(there, made.text)
    assert await there.counts(f"key:{other.key.id}")
    assert await here.revoke(made.key.id) is False


async def test_a_key_that_is_withdrawn_here_is_told_here():
    """Who withdraws it and serves with it closes what is open, too."""
    keys = ApiKeys(MemoryStore())
    made = await keys.create()
    await keys.verify(made.text)
    await keys.revoke(made.key.id)
    await refused(keys, made.text)
    assert list(await keys.refresh()) == [f"key:{made.key.id}"]
    assert list(await keys.refresh()) == []


async def test_a_key_that_was_replaced_is_told_like_one_that_was_withdrawn():
    """Another key under its id, or another secret of it, is not what was shown."""
    store = MemoryStore()
    here, there = ApiKeys(store), ApiKeys(store)
    made = await here.create()
    await there.refresh()
    other = msgspec.structs.replace(made.key, digest=b"x" * 32)
    await store.put("key", [Document(made.key.id, msgspec.json.encode(other))])
    assert list(await there.refresh()) == [f"key:{made.key.id}"]
    assert "unknown" in await refused(there, made.text)


async def test_a_key_made_while_the_list_is_read_is_not_taken_for_withdrawn():
    """It is found by who shows it, and stays: nothing of it is cut; the next look confirms it."""
    store = Counting()
    keys = ApiKeys(store)
    await keys.create()
    store.hold_listing = asyncio.Event()
    looking = asyncio.ensure_future(keys.refresh())
    await asyncio.sleep(0)
    made = await ApiKeys(store).create()
    assert await keys.verify(made.text)
    store.hold_listing.set()
    assert list(await looking) == []
    before = store.listings
    assert list(await keys.refresh()) == []
    assert store.listings == before + 1
    assert await keys.counts(f"key:{made.key.id}")


async def test_a_key_found_while_it_is_listed_stays():
    """It is in both, and the same key: nothing of it is cut."""
    store = Counting()
    keys = ApiKeys(store)
    made = await keys.create()
    store.hold_listing = asyncio.Event()
    looking = asyncio.ensure_future(keys.refresh())
    await asyncio.sleep(0)
    assert await keys.verify(made.text)
    store.hold_listing.set()
    assert list(await looking) == []


async def test_a_key_withdrawn_here_while_the_list_is_read_does_not_come_back():
    """The list that is older than that does not bring it back."""
    store = Counting()
    keys = ApiKeys(store)
    made = await keys.create()
    assert await keys.verify(made.text)
    store.hold_listing = asyncio.Event()
    looking = asyncio.ensure_future(keys.refresh())
    await asyncio.sleep(0)
    await keys.revoke(made.key.id)
    store.hold_listing.set()
    assert list(await looking) == [f"key:{made.key.id}"]
    assert not await keys.counts(f"key:{made.key.id}")


async def test_the_first_requests_with_a_new_key_share_one_question():
    """All of them are let in, also those that come while the store is asked."""
    store = Counting()
    keys = ApiKeys(store)
    made = await keys.create()
    store.hold = asyncio.Event()
    asking = [asyncio.ensure_future(keys.verify(made.text)) for _ in range(8)]
    await asyncio.sleep(0)
    asking.pop().cancel()
    store.hold.set()
    assert len(await asyncio.gather(*asking)) == 7
    assert store.gets == 1


async def test_a_key_that_cannot_be_read_takes_nothing_from_others():
    """One of a newer version, say: it counts no more, the others are followed; it is told."""
    store = MemoryStore()
    keys = ApiKeys(store)
    good, bad = await keys.create(), await keys.create()
    await keys.refresh()
    with capture_logs() as logs:
        await store.put("key", [Document(bad.key.id, b'{"id": 7}')])
        assert list(await keys.refresh()) == [f"key:{bad.key.id}"]
        await refused(keys, bad.text)
    assert await keys.verify(good.text)
    assert [key.id for key in await keys.list()] == [good.key.id]
    assert {(log["log_level"], log["key"]) for log in logs} == {("warning", bad.key.id)}


async def test_others_have_their_turn_while_many_keys_are_read():
    """However many there are: a store in memory never waits by itself."""
    store = MemoryStore()
    document = msgspec.json.decode(await stored(store))
    await store.put(
        "key",
        [
            Document(f"{number:016x}", msgspec.json.encode({**document, "id": f"{number:016x}"}))
            for number in range(1_000)
        ],
    )
    looking = asyncio.ensure_future(ApiKeys(store).refresh())
    turns = 0
    while not looking.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 2


async def stored(store):
    """What is kept of a key that is made in the store."""
    return await store.get("key", (await ApiKeys(store).create()).key.id)


async def test_only_ids_are_withdrawn():
    """A path, or a whole key, is refused before it is looked for."""
    with pytest.raises(InvalidRequest):
        await ApiKeys(MemoryStore()).revoke("../x")


async def test_nothing_is_read_while_nothing_changes():
    """Looking every second costs one small question."""
    store = Counting()
    keys = ApiKeys(store)
    await keys.create()
    await keys.refresh()
    before = store.listings
    for _ in range(10):
        await keys.refresh()
    assert store.listings == before


async def test_all_keys_are_followed_however_many():
    """More than fit one part of a listing."""
    store = MemoryStore()
    keys = ApiKeys(store)
    made = [await keys.create() for _ in range(1_001)]
    there = ApiKeys(store)
    await there.refresh()
    assert all([await there.counts(f"key:{each.key.id}") for each in made])
    assert len(await there.list()) == 1_001


async def test_keys_are_listed_as_they_were_made():
    """The oldest first, whatever its id is."""
    clock = Clock()
    keys = ApiKeys(MemoryStore(), wall=clock)
    names = ["a", "b", "c", "d"]
    for name in names:
        clock.now += 1
        await keys.create(name=name)
    assert [key.name for key in await keys.list()] == names


async def test_an_unknown_key_asks_the_store_once():
    """Also when many ask at once; then it is believed for a while, and looked for again."""
    clock = Clock()
    store = Counting()
    keys = ApiKeys(store, wall=clock)
    text = "ap_0123456789abcdef_" + "x" * 43
    await asyncio.gather(*(refused(keys, text) for _ in range(10)))
    await refused(keys, text)
    assert store.gets == 1
    clock.now += 6
    await refused(keys, text)
    assert store.gets == 2


async def test_a_known_key_does_not_ask_the_store():
    """One look, then the copy is enough."""
    store = Counting()
    keys = ApiKeys(store)
    made = await keys.create()
    for _ in range(5):
        await keys.verify(made.text)
    assert store.gets == 1


async def test_whoever_guesses_ids_does_not_drown_the_store():
    """So many unknown ids a second are asked for, and a bounded number is remembered."""
    clock = Clock()
    store = Counting()
    keys = ApiKeys(store, wall=clock)
    for number in range(500):
        await refused(keys, f"ap_{number:016x}_secret")
    assert store.gets == 50
    for number in range(12_000):
        clock.now += 0.03
        await refused(keys, f"ap_{number + 500:016x}_secret")
    assert repr(keys) == "<ApiKeys 0 known, 10000 refused>"


async def test_an_outage_is_not_taken_for_an_unknown_key():
    """The caller hears that the store is away, and is let in as soon as it is back."""
    store = Counting()
    keys = ApiKeys(store)
    made = await keys.create()
    store.away = True
    with pytest.raises(StoreUnavailable):
        await keys.verify(made.text)
    store.away = False
    assert await keys.verify(made.text)


async def test_a_key_withdrawn_while_it_is_read_is_not_remembered():
    """An answer that was on its way does not bring it back, nor is it taken once more."""
    store = Counting()
    keys = ApiKeys(store)
    made = await keys.create()
    await keys.refresh()
    other = await keys.create()
    store.hold = asyncio.Event()
    reading = asyncio.ensure_future(keys.verify(other.text))
    await asyncio.sleep(0)
    await ApiKeys(store).revoke(other.key.id)
    await keys.refresh()
    store.hold.set()
    with pytest.raises(BadCredential):
        await reading
    await refused(keys, other.text)
    assert await keys.counts(f"key:{made.key.id}")


@pytest.mark.parametrize(
    ("given", "had"),
    [
        ((), ("user",)),
        (("operator",), ("user", "operator")),
        (("admin",), ("user", "operator", "admin")),
        (("support", "user"), ("user", "support")),
    ],
)
def test_roles_include_each_other(given, had):
    """An admin is an operator, everybody is a user; other words stand for themselves."""
    assert with_included(given) == had
