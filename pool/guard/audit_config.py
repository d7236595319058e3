"""How an audit log is kept, and where it may be kept."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Literal, Protocol

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.audit_records import Head, Sealed


class Sink(Protocol):
    """Where records are kept: a file, a store."""

    async def open(self, chain: str) -> Head | None:
        """Make ready; the head of the chain to go on with, or None: a new one, `chain`."""

    async def write(self, records: Sequence[Sealed]) -> None:
        """Add records; `StoreUnavailable` if that cannot be done now: they will be given again."""

    async def close(self) -> None:
        """Let go of everything."""


class AuditConfig(Struct, frozen=True, kw_only=True):
    """How the log is kept.

    `unwritable`: while records cannot be written turns are refused (`refuse`), or go on (`warn`).
    `buffer_max`: how many records may wait; further ones are lost, and counted in the log itself.
    `batch_s`: how many seconds records wait for others to be written with. `alive_s`: after so many
    seconds without a record there is one that says so. `retry_s`: the pause before what failed is
    tried again.
    """

    unwritable: Literal["refuse", "warn"] = "refuse"
    buffer_max: int = 10_000
    batch_s: float = 0.1
    alive_s: float = 60.0
    retry_s: float = 1.0

    def __post_init__(self) -> None:
        if self.unwritable not in ("refuse", "warn"):
            raise ConfigError("unwritable", self.unwritable, "write refuse or warn")
        if self.buffer_max < 1:
            raise ConfigError("buffer_max", self.buffer_max, "write a number of at least 1")
        for name in ("batch_s", "alive_s", "retry_s"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0):
                raise ConfigError(name, value, "write a number of seconds above 0")
