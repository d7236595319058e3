"""The steps of the contract as scripts that Redis runs whole: scripts/*.lua.

They are called by their digest; a server that does not know one (any more) is sent its text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

import structlog
from hiredis import ReplyError

from pool.errors import Internal, PoolError
from pool.store.codec_plain import encode_row
from pool.store.limits import Retention
from pool.store.redis_keys import LAYOUT, SessionNames
from pool.store.redis_servers import RedisServers
from pool.store.redis_wire import bulk, code_of, pack, unavailable

_log = structlog.get_logger("pool.store.redis")
_DIRECTORY: Final = Path(__file__).parent / "scripts"
# Scripts about one session take its keys first. Here is what each needs behind session.lua.
_OF_SESSIONS: Final[Mapping[str, Sequence[str]]] = {
    "accept": ("owners", "nudges", "making", "states"),
    "append": ("nudges", "log", "writing", "states"),
    "commit": ("nudges", "log", "writing", "states", "resting"),
    "load": ("states",),
    "claim": ("owners", "queue"),
    "release": ("nudges", "resting"),
    "signal": ("queue", "nudges"),
    "inbox": ("nudges",),
    "watch": ("nudges",),
    "unwatch": (),
    "stray": ("nudges",),
    "events": ("log",),
    "said": (),
    "turns": (),
    "create": ("making", "resting"),
    "carry_in": ("making", "nudges", "states", "resting"),
    "delete": ("queue",),
    "upkeep": ("log",),
}
# Scripts that change documents, behind filing.lua.
_OF_DOCUMENTS: Final = ("put", "replace", "remove")
_OTHERS: Final = (
    *("beat", "member", "members", "orphans", "due", "take", "put_off", "settle", "unlist"),
    *("documents", "count"),
    *("probe", "layout"),
)
# How many batches of events a session's log keeps, and dead letters a partition.
BATCHES_MAX: Final = 20_000
DEAD_MAX: Final = 10_000

Word = str | bytes | int
# partition, script, keys, arguments
Call = tuple[int, str, Sequence[str], Sequence[Word]]

_REMEDIES: Final = {
    "OOM": "Redis has no memory left: raise its maxmemory, or keep less (store retention)",
    "MISCONF": "Redis cannot write to its disk: make room there, and see its log",
    "NOREPLICAS": "Redis has fewer replicas than it wants: see its min-replicas-to-write",
    "NOPERM": "the Redis user may not do what the store needs: see the log",
    "NOAUTH": "Redis wants a password: write it in store.url",
    "BUSY": "Redis is busy with a script that does not end",
}


class Scripts:
    """The scripts with the limits of one store."""

    def __init__(
        self, servers: RedisServers, *, retention: Retention, lease_s: float, prefix: str
    ) -> None:
        self._servers = servers
        self._limits = _limits(retention, lease_s, prefix)
        self.texts: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        # what a call of each begins with, by its digest and by its text
        self._calls: dict[str, tuple[bytes, bytes]] = {}
        self.set_ahead(0)

    def set_ahead(self, micros: int) -> None:
        """Let the scripts' clock go ahead of Redis's, so that tests need not wait."""
        begin = f"{self._limits}local AHEAD_US = {micros}\n"
        needs: dict[str, Sequence[str]] = {name: ("common", name) for name in _OTHERS}
        needs |= {name: ("common", "filing", name) for name in _OF_DOCUMENTS}
        needs |= {
            name: ("common", "session", *needed, name) for name, needed in _OF_SESSIONS.items()
        }
        self.texts = {name: begin + "".join(map(_read, files)) for name, files in needs.items()}
        self._digests = {
            name: sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in self.texts.items()
        }
        self._calls = {
            name: (
                bulk((b"EVALSHA", self._digests[name].encode())),
                bulk((b"EVAL", text.encode())),
            )
            for name, text in self.texts.items()
        }

    def packed(
        self, name: str, keys: Sequence[str], words: Sequence[Word], *, by_text: bool = False
    ) -> bytes:
        """The command that runs a script, by its digest or its text."""
        how = ("EVAL", self.texts[name]) if by_text else ("EVALSHA", self._digests[name])
        return pack((*how, len(keys), *keys, *words))

    async def run(
        self, partition: int, name: str, keys: Sequence[str], words: Sequence[Word] = ()
    ) -> Any:
        """What a script answers; `StoreUnavailable`, or `Internal` for a defect of the script."""
        answer = await self._servers.call(partition, self.packed(name, keys, words))
        if isinstance(answer, ReplyError):
            by_text = self.packed(name, keys, words, by_text=True)
            return await self._by_text(partition, name, by_text, answer)
        return answer

    async def step(
        self,
        name: str,
        names: SessionNames,
        row: Sequence[object],
        *data: bytes,
        keys: Sequence[str] = (),
    ) -> Any:
        """What a script about one session answers; errors as with `run`.

        It takes the session's keys and others; the session's name with a row of what is no bytes;
        and bytes.
        """
        count = len(names.block) + len(keys)
        words = (*map(str.encode, keys), encode_row((names.name, *row)), *data)
        begin = b"*%d\r\n" % (3 + len(names.block) + len(words))
        rest = b"%b%b%b" % (bulk((b"%d" % count,)), names.packed, bulk(words))
        by_digest, by_text = self._calls[name]
        answer = await self._servers.call(names.partition, begin + by_digest + rest)
        if isinstance(answer, ReplyError):
            return await self._by_text(names.partition, name, begin + by_text + rest, answer)
        return answer

    async def _by_text(self, partition: int, name: str, packed: bytes, error: ReplyError) -> Any:
        """The answer to a call by its text, if by its digest the script was not known."""
        if not str(error).startswith("NOSCRIPT"):
            raise fault(name, error)
        answer = await self._servers.call(partition, packed)
        if isinstance(answer, ReplyError):
            raise fault(name, answer)
        return answer

    async def command(self, partition: int, *words: Word) -> Any:
        """What a plain command answers; errors as with `run`."""
        answer = await self._servers.call(partition, pack(words))
        if isinstance(answer, ReplyError):
            raise fault(str(words[0]), answer)
        return answer

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """The answers to several scripts, which go out together."""
        return await asyncio.gather(*[self.run(*call) for call in calls])

    async def command_all(self, calls: Sequence[tuple[int, Sequence[Word]]]) -> list[Any]:
        """The answers to several plain commands (partition, words), which go out together."""
        return await asyncio.gather(*[self.command(each, *words) for each, words in calls])


def fault(what: str, reply: ReplyError) -> PoolError:
    """What an error reply means to callers. Its own text is for the log."""
    code = code_of(reply)
    remedy = _REMEDIES.get(code)
    if remedy is None or code == "NOPERM":
        _log.error("Redis refused a step", step=what, reply=str(reply))
    if remedy is None:
        return Internal(f"Redis refused the step {what} ({code}); its reply is in the log")
    return unavailable(remedy)


def _limits(retention: Retention, lease_s: float, prefix: str) -> str:
    session_ms, events_ms = retention.session_ttl_s * 1000, retention.events_ttl_s * 1000
    limits = {
        "LEASE_MS": lease_s * 1000,
        "SESSION_MS": session_ms,
        "EVENTS_MS": events_ms,
        "UPKEEP_MS": min(session_ms, events_ms) / 8,
        "TURNS_MAX": retention.max_turns_per_session,
        "ENTRIES_MAX": retention.max_entries_per_session,
        "BATCHES_MAX": BATCHES_MAX,
        "DEAD_MAX": DEAD_MAX,
    }
    lines = [f"local {name} = {max(1, int(value))}" for name, value in limits.items()]
    texts = {
        "SESSION_TTL": int(session_ms),
        "LOG_TTL": int(min(session_ms, events_ms)),
        "PREFIX": prefix,
        "STORE_LAYOUT": LAYOUT,
    }
    lines += [f"local {name} = '{value}'" for name, value in texts.items()]
    return "\n".join([*lines, ""])


def _read(name: str) -> str:
    return (_DIRECTORY / f"{name}.lua").read_text(encoding="utf-8")
