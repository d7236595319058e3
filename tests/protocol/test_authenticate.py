from __future__ import annotations

import asyncio
import sys

import pytest

from pool.errors import ConfigError, StoreUnavailable
from pool.guard.caller import Caller
from pool.guard.keys import ApiKeys
from pool.store.memory import MemoryStore
from pool.turn import Principal
from protocol.authenticate.authenticator import Authenticator
from protocol.authenticate.config import MAY_BE_PUBLIC, AuthConfig
from protocol.authenticate.live import Live
from protocol.problems import Unauthenticated
from protocol.routes import ROUTES
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, claims, token

TOKENS = AuthConfig(
    mode="jwt",
    jwt_algorithms=("HS256",),
    jwt_key=SECRET,
    jwt_audience=AUDIENCE,
    jwt_issuer=ISSUER,
)
KEYS = AuthConfig(mode="keys")


class Thing:
    """Something that is open."""

    def __init__(self):
        self.withdrawn = 0

    def withdraw(self):
        self.withdrawn += 1


class Away(MemoryStore):
    """A store that can be away, or broken."""

    error: Exception | None = None

    async def changes(self, kind):
        if self.error is not None:
            raise self.error
        return await super().changes(kind)


def caller(credential, expires_at=None):
    """Somebody with a credential."""
    return Caller(Principal(), credential, expires_at)


def test_what_is_open_ends_with_its_credential():
    """All of it, once, and nothing of another's."""
    live = Live()
    mine, also_mine, other = Thing(), Thing(), Thing()
    live.add(caller("key:a"), mine)
    live.add(caller("key:a"), also_mine)
    live.add(caller("key:b"), other)
    live.withdraw(["key:a"])
    live.withdraw(["key:a", "key:unknown"])
    assert (mine.withdrawn, also_mine.withdrawn, other.withdrawn) == (1, 1, 0)
    live.remove(mine)
    assert len(live) == 1
    live.remove(other)
    assert len(live) == 0


def test_what_is_open_ends_when_its_credential_expires():
    """At the moment, not before; what never expires stays."""
    live = Live()
    soon, never = Thing(), Thing()
    live.add(caller("jwt:10", 10.0), soon)
    live.add(caller("key:a"), never)
    live.expire(9.9)
    assert soon.withdrawn == 0
    live.expire(10.0)
    assert (soon.withdrawn, never.withdrawn) == (1, 0)


def test_what_needed_no_credential_is_not_kept():
    """Where nobody is asked, nothing can be withdrawn."""
    live = Live()
    live.add(caller(""), Thing())
    assert len(live) == 0


def test_what_may_be_public_is_a_route():
    """The server's own, or the page of metrics that the command adds."""
    paths = {route.path for route in ROUTES} | {"/metrics"}
    assert set(MAY_BE_PUBLIC) <= paths


async def test_an_outage_of_the_store_ends_neither_keys_nor_the_looking():
    """Known keys go on counting; when the store is back, what was withdrawn is."""
    store = Away()
    made = await ApiKeys(store).create()
    asks = Authenticator(KEYS, store)
    await asks.start()
    thing = Thing()
    asks.live.add(await asks.caller_with(made.text), thing)
    await ApiKeys(store).revoke(made.key.id)
    for error in (StoreUnavailable("away"), RuntimeError("a defect")):
        store.error = error
        await asyncio.sleep(3)
        assert await asks.caller_with(made.text)
    store.error = None
    await asyncio.sleep(3)
    assert thing.withdrawn == 1
    with pytest.raises(Unauthenticated):
        await asks.caller_with(made.text)
    await asks.stop()
    await asks.stop()


async def test_a_server_starts_without_its_store():
    """And learns the keys when it is there."""
    store = Away()
    made = await ApiKeys(store).create()
    store.error = StoreUnavailable("away")
    asks = Authenticator(KEYS, store)
    await asks.start()
    store.error = None
    assert await asks.caller_with(made.text)
    await asks.stop()


async def test_what_was_shown_before_is_checked_again():
    """A key that was withdrawn, and a token whose time is over, count no more; others do."""
    store = MemoryStore()
    made, other = await ApiKeys(store).create(), await ApiKeys(store).create()
    asks = Authenticator(KEYS, store)
    shown, good = await asks.caller_with(made.text), await asks.caller_with(other.text)
    await asks.check(shown)
    await ApiKeys(store).revoke(made.key.id)
    await asks.refresh()
    await asks.check(good)
    with pytest.raises(Unauthenticated):
        await asks.check(shown)
    now = claims()["iat"]
    later = Authenticator(TOKENS, store, wall=lambda: now + 60.0)
    ended = await later.caller_with(token(exp=now + 10))
    with pytest.raises(Unauthenticated):
        await later.check(ended)
    await later.check(await later.caller_with(token(exp=now + 100)))
    await later.stop()


async def test_a_key_that_was_shown_elsewhere_is_looked_up():
    """A ticket may be of a key that this process has not seen yet."""
    store = MemoryStore()
    made = await ApiKeys(store).create()
    asks = Authenticator(KEYS, store)
    await asks.check(made.key.caller)
    with pytest.raises(Unauthenticated):
        await asks.check(caller("key:0123456789abcdef"))


async def test_a_key_is_no_token_and_a_token_no_key():
    """What the mode does not name does not count."""
    store = MemoryStore()
    made = await ApiKeys(store).create()
    with pytest.raises(Unauthenticated):
        await Authenticator(KEYS, store).caller_with(token())
    with pytest.raises(Unauthenticated):
        await Authenticator(TOKENS, store).caller_with(made.text)


def test_tokens_without_their_library_say_what_to_install(monkeypatch):
    """The operator reads the name of the extra."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.delitem(sys.modules, "pool.guard.token_keys", raising=False)
    monkeypatch.delitem(sys.modules, "pool.guard.tokens", raising=False)
    with pytest.raises(ConfigError, match=r"actorpool\[jwt\]"):
        Authenticator(TOKENS, MemoryStore())


def test_nothing_shows_a_secret():
    """Neither the configuration nor who asks by it."""
    shown = repr(TOKENS) + repr(Authenticator(TOKENS, MemoryStore()))
    assert SECRET not in shown + str(list(TOKENS.__rich_repr__()))
