"""Results of a tool that are used again: within a tenant, for exactly the same arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from pool.agents.tool_results import Result
from pool.guard.answers_memory import MemoryAnswers

# How many results of one tool are kept, and how many bytes they may take together.
RESULTS_MAX: Final = 1_000
BYTES_MAX: Final = 16 * 2**20


class ResultCache:
    """Keeps the results of the tool `name` for `ttl_s` seconds."""

    __slots__ = ("_kept", "_name", "_ttl_s")

    def __init__(self, name: str, ttl_s: float) -> None:
        self._name = name
        self._ttl_s = ttl_s
        self._kept = MemoryAnswers(max_entries=RESULTS_MAX, max_bytes=BYTES_MAX, clock=_loop_time)

    async def get(self, tenant: str, arguments: Mapping[str, Any]) -> Result | None:
        """What came of this very call, if that is not too long ago."""
        kept = await self._kept.get(self._key(tenant, arguments))
        return None if kept is None else msgspec.json.decode(kept, type=Result)

    async def put(self, tenant: str, arguments: Mapping[str, Any], result: Result) -> None:
        """Keep what came of a call, unless that was an error."""
        if not result.is_error:
            # as bytes: whoever is handed a result may change it
            kept = msgspec.json.encode(result)
            await self._kept.put(self._key(tenant, arguments), kept, self._ttl_s)

    def _key(self, tenant: str, arguments: Mapping[str, Any]) -> str:
        call = msgspec.json.encode((tenant, self._name, arguments), order="deterministic")
        return blake2b(call, digest_size=32).hexdigest()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
