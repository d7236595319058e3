"""The names of keys. Their layout is told in scripts/session.lua and in each script's header.

The partition stands in braces: Redis Cluster keeps together what has the same there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from pool.errors import ConfigError, InvalidRequest
from pool.ids import PARTITION_DIGITS as TAGS
from pool.ids import PARTITIONS, check_id, partition
from pool.store.base import SessionKey
from pool.store.redis_wire import bulk

# Where what belongs to no partition is found: the list of replicas, the name of the layout.
COMMON: Final = PARTITIONS
# The layout of all that is kept: names and kinds of keys, and what they hold. It rises whenever
# programs from before and after a change would misread, or break, what the other writes.
LAYOUT: Final = "1"
# How many sessions' names are kept ready.
_KEPT: Final = 4096
_NUMBERS: Final = {tag: number for number, tag in enumerate(TAGS)}


class SessionNames(NamedTuple):
    """The keys of a session: `block` are those that every script about a session takes, the first
    seven its own.
    """

    partition: int
    # <tenant>:<session id>
    name: str
    head: str
    block: tuple[str, ...]
    # the tenant's sessions of this partition, and the tenants that have any
    listing: tuple[str, str]
    # the block as it goes over the wire
    packed: bytes

    @property
    def session(self) -> str:
        """The key of the session itself."""
        return self.block[0]

    @property
    def ids(self) -> str:
        """The key of the ids of its turns."""
        return self.block[1]

    @property
    def said(self) -> str:
        """The key of its transcript."""
        return self.block[2]

    @property
    def states(self) -> str:
        """The key of what agents keep of it."""
        return self.block[3]

    @property
    def own(self) -> tuple[str, ...]:
        """The keys that are its own, all but its turns."""
        return self.block[:7]

    def turn(self, turn_id: str) -> str:
        """The key of a turn of it."""
        return f"{self.head}t:{turn_id}"

    def besides(self, turn_id: str) -> str:
        """The key of what an unfinished turn has besides."""
        return f"{self.head}x:{turn_id}"


class KeySpace:
    """All names under one prefix."""

    def __init__(self, prefix: str) -> None:
        if not (prefix.isascii() and prefix.replace("-", "").replace("_", "").isalnum()):
            raise ConfigError("store.prefix", prefix, "write letters, digits, - and _")
        self.prefix = prefix
        self.replicas = f"{prefix}:replicas"
        # in the slot of the replicas, whose beats keep it
        self.layout = f"{prefix}:{{{self.replicas}}}:layout"
        self.everybody = f"{prefix}:all"
        self._heads = [f"{prefix}:{{{tag}}}:" for tag in TAGS]
        # a turn asks for them twice at least; `InvalidRequest` if the key is made of no ids
        self.session: Callable[[SessionKey], SessionNames] = lru_cache(_KEPT)(self._session)

    def samples(self) -> list[str]:
        """For each partition a key of it, and at last one that belongs to none."""
        return [*(f"{head}work" for head in self._heads), self.replicas]

    def probes(self) -> list[str]:
        """The same, of keys that are nobody's."""
        return [*(f"{head}probe" for head in self._heads), f"{self.prefix}:probe"]

    def channel(self, owner: str) -> str:
        """The channel on which an owner is nudged."""
        return f"{self.prefix}:to:{owner}"

    def _session(self, key: SessionKey) -> SessionNames:
        tenant = check_id(key[0], "tenant")
        session_id = check_id(key[1], "session_id")
        number = partition(key)
        head = self._heads[number]
        name = f"{tenant}:{session_id}"
        base = f"{head}s:{name}"
        block = (
            base,
            f"{base}:ids",
            f"{base}:said",
            f"{base}:states",
            f"{base}:log",
            f"{base}:inbox",
            f"{base}:watch",
            f"{head}work",
            f"{head}alive",
        )
        listing = (f"{head}index:{tenant}", f"{head}tenants")
        return SessionNames(number, name, head, block, listing, bulk(map(str.encode, block)))

    def turn(self, turn_id: str) -> tuple[int, str] | None:
        """The partition and the key of a turn, from its id; None if it is none."""
        if not is_id(turn_id):
            return None
        number = _NUMBERS[turn_id[0]]
        return number, f"{self._heads[number]}t:{turn_id}"

    def find(self, key: SessionKey) -> SessionNames | None:
        """The names of a session; None if its key is made of no ids: there is no such session."""
        try:
            return self.session(key)
        except InvalidRequest:
            return None

    def of_partition(self, number: int, name: str) -> str:
        """A key that each partition has one of: work, alive, hooks, tries, dead, tenants."""
        return f"{self._heads[number]}{name}"

    def index(self, number: int, tenant: str) -> str:
        """The key of a tenant's sessions of one partition."""
        return f"{self._heads[number]}index:{tenant}"


def is_id(text: str) -> bool:
    """Whether it may be the id of something."""
    try:
        check_id(text, "id")
    except InvalidRequest:
        return False
    return True


def key_of(name: str) -> SessionKey:
    """The session that is called <tenant>:<session id>."""
    tenant, _, session_id = name.partition(":")
    return SessionKey(tenant, session_id)
