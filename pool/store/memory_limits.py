"""How much a memory store keeps, and for how long."""

from __future__ import annotations

from typing import ClassVar

from pool.store.limits import Retention


class MemoryLimits(Retention, frozen=True, kw_only=True):
    """Bounds of a `MemoryStore`. Past them the sessions that were idle longest are dropped.

    A session with an unfinished turn is never dropped; if nothing can be, the store refuses.
    """

    section: ClassVar[str] = "memory"

    # an idle session is packed into bytes after this time
    rest_after_s: float = 5.0
    max_sessions: int = 1_000_000
    # approximately, as counted by the store
    max_bytes: int = 2**30
