"""What an agent says that wants its answers kept."""

from __future__ import annotations

from math import isfinite
from typing import Final, Literal

from msgspec import Struct

from pool.errors import ConfigError

# A year: longer is a slip of the pen.
_TTL_MAX_S: Final = 366 * 86_400.0


class AnswerCache(Struct, frozen=True, kw_only=True):
    """How answers of one agent are kept, so that an equal question costs nothing.

    Equal are questions of one tenant (or, with `per="user"`, of one user with the same roles), with
    the same text, in conversations that are equal so far, with the same `metadata` (the entries of
    these names; None: all of it), complexity and priority. `version`: change it when the answers
    change for a reason that the agent does not tell by itself (see `answers_key.AnswersAs`).

    `ttl_s`: how long an answer is kept, in seconds; `jitter`: each for up to this part less, so
    that not all are asked for anew together. `max_answer_bytes`: larger ones are not kept, what the
    agent keeps of the session included. `max_entries`, `max_bytes`: so many are kept in this
    process's memory, those that were used last; a Redis has limits of its own.
    """

    ttl_s: float
    jitter: float = 0.1
    per: Literal["tenant", "user"] = "tenant"
    metadata: tuple[str, ...] | None = None
    version: str = ""
    max_answer_bytes: int = 2**18
    max_entries: int = 10_000
    max_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        if not (isfinite(self.ttl_s) and 0 < self.ttl_s <= _TTL_MAX_S):
            raise ConfigError(
                "ttl_s", self.ttl_s, f"write a number of seconds above 0, at most {_TTL_MAX_S:.0f}"
            )
        if not 0 <= self.jitter < 1:
            raise ConfigError("jitter", self.jitter, "write a number from 0 to below 1")
        if self.per not in ("tenant", "user"):
            raise ConfigError("per", self.per, "write tenant or user")
        for name in ("max_answer_bytes", "max_entries", "max_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "write a number of at least 1")
