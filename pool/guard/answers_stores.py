"""Where answers are kept, and from its URL to it. What a Redis needs is imported when asked for."""

from __future__ import annotations

from math import isfinite
from typing import Protocol

from msgspec import Struct

from pool.errors import ConfigError
from pool.store.urls import MEMORY, scheme_of, without_password


class AnswerStore(Protocol):
    """Keeps answers, as bytes under keys that tell nothing. It may lose any of them at any time,
    and never raises: what cannot be had is not there.
    """

    async def get(self, key: str) -> bytes | None:
        """The answer, if it is there."""

    async def put(self, key: str, answer: bytes, ttl_s: float) -> None:
        """Keep an answer for so many seconds."""


class ClosingAnswerStore(AnswerStore, Protocol):
    """One that has connections."""

    async def close(self) -> None:
        """Let go of them."""


class CacheConfig(Struct, frozen=True, kw_only=True):
    """Where answers are kept that agents want kept: `url` is `memory` (each process has its own),
    or that of a Redis, for all processes (see `pool.store.redis_url`). `timeout_s`: a Redis that
    takes longer is done without.
    """

    url: str = MEMORY
    timeout_s: float = 0.25

    def __post_init__(self) -> None:
        shown = without_password(self.url)
        remedy = "write memory, redis://host:6379/0, rediss://, redis+sentinel:// or "
        try:
            scheme = scheme_of(self.url)
        except ConfigError:
            scheme = ""
        if scheme in ("", "sqlite"):
            raise ConfigError("url", shown, remedy + "redis+cluster://")
        if not (isfinite(self.timeout_s) and self.timeout_s > 0):
            raise ConfigError("timeout_s", self.timeout_s, "write a number of seconds above 0")


def answer_store(config: CacheConfig) -> ClosingAnswerStore | None:
    """The store that a configuration names; None: the memory that each agent has by itself.
    `ConfigError` says what is wrong with the URL, or which packages are missing.
    """
    if config.url == MEMORY:
        return None
    try:
        from pool.guard.answers_redis import RedisAnswers
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "pool":
            raise
        remedy = 'answers in Redis need other packages: pip install "actorpool[cache,redis]"'
        raise ConfigError("cache.url", without_password(config.url), remedy) from None
    try:
        return RedisAnswers(config.url, timeout_s=config.timeout_s)
    except ConfigError as mistake:
        raise ConfigError("cache.url", mistake.value, mistake.remedy) from None
