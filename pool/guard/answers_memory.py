"""Answers in this process's memory: so many, so large, and those that were used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

# What an entry takes besides its key and its answer, about.
_ENTRY_BYTES: Final = 300


class _Entry(NamedTuple):
    answer: bytes
    until: float


class MemoryAnswers:
    """An `AnswerStore` of one process. `clock`: monotonic seconds."""

    def __init__(self, *, max_entries: int, max_bytes: int, clock: Callable[[], float]) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        # the one that was used longest ago comes first
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __repr__(self) -> str:
        return (
            f"<MemoryAnswers [{len(self._entries)} of {self._max_entries}, "
            f"{self._bytes} of {self._max_bytes} bytes]>"
        )

    async def get(self, key: str) -> bytes | None:
        """The answer; None if there is none (any more)."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.answer

    async def put(self, key: str, answer: bytes, ttl_s: float) -> None:
        """Keep it so long, unless it does not fit at all; others may have to go."""
        self._drop(key)
        if _size(key, answer) > self._max_bytes:
            return
        self._entries[key] = _Entry(answer, self._clock() + ttl_s)
        self._bytes += _size(key, answer)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry.answer)


def _size(key: str, answer: bytes) -> int:
    return len(key) + len(answer) + _ENTRY_BYTES
