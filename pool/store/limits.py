"""How long every store keeps what is idle, and how much of it."""

from __future__ import annotations

from math import isfinite
from typing import ClassVar

from msgspec import Struct
from msgspec.structs import fields

from pool.errors import ConfigError


class Retention(Struct, frozen=True, kw_only=True):
    """What a store lets go of by itself. `ConfigError` names an option that is out of range."""

    # what its options are called together
    section: ClassVar[str] = "retention"

    # how long a session is kept after its last turn, unless it has a `ttl_s` of its own
    session_ttl_s: float = 7 * 86_400.0
    # how long the events of an ended turn can be replayed
    events_ttl_s: float = 86_400.0
    # older turns of a session, and their events, are dropped; the transcript stays
    max_turns_per_session: int = 1_000
    # entries of a session's transcript; the oldest are dropped
    max_messages_per_session: int = 10_000

    @property
    def max_entries_per_session(self) -> int:
        """How many turns' words that is: a turn says at most two messages."""
        return max(1, self.max_messages_per_session // 2)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isfinite(value) and value > 0):
                raise ConfigError(f"{self.section}.{field.name}", value, "write a number above 0")
