"""The engine's configuration: frozen, checked once, every option with its unit in its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from pool.agent import Gate
from pool.errors import ConfigError
from pool.guard.answers_config import AnswerCache


class AgentSpec(Struct, frozen=True, kw_only=True):
    """One agent of a pool.

    `agent`: an async function or async generator of text, a synchronous function (runs in a
    thread), an `Agent`, or a factory of any of these without arguments (one instance an actor).
    `min`, `max`: how many actors. `limit`: the name of the concurrency limit it shares with others
    that use the same provider (default: one of its own). `limit_initial`: where that limit starts
    (default `max`). `cache`: its answers are kept for equal questions (None: they are not).
    """

    agent: Callable[..., Any] | Any
    description: str = ""
    min: int = 1
    max: int = 16
    limit: str | None = None
    limit_initial: int | None = None
    gate: Gate | None = None
    max_steps: int = 16
    max_tokens: int | None = None
    cache: AnswerCache | None = None

    def __post_init__(self) -> None:
        _at_least(self, 0, "min")
        _at_least(self, 1, "max", "max_steps")
        if self.min > self.max:
            raise ConfigError("min", self.min, f"at most max, which is {self.max}")
        for name in ("max_tokens", "limit_initial"):
            if getattr(self, name) is not None:
                _at_least(self, 1, name)


class PoolConfig(Struct, frozen=True, kw_only=True):
    """How a pool behaves. The defaults serve an agent that answers within seconds to minutes."""

    # admission
    queue_max: int = 1_000
    # the largest part of the queue that one tenant may fill, above 0 to 1
    tenant_share: float = 1.0
    # a tenant of weight 2 is served twice as often as one of weight 1 (the default)
    tenant_weights: Mapping[str, float] = {}
    # standing overload: the smallest wait in a window stays above the target
    overload_wait_s: float = 1.0
    overload_window_s: float = 10.0

    # scaling
    start_limit: int = 4
    scale_down_hold_s: float = 90.0
    tick_s: float = 1.0

    # the concurrency limit that follows the provider
    limit_window_s: float = 1.0
    limit_decrease: float = 0.9

    # supervision
    backoff_first_s: float = 0.1
    backoff_max_s: float = 30.0
    quiet_s: float = 60.0
    restarts_max: int = 5
    restarts_window_s: float = 30.0
    open_timeout_s: float = 30.0
    # how long a cancelled agent may go on before its actor is abandoned
    cancel_grace_s: float = 5.0
    max_attempts: int = 3
    # how long the loop may be blocked before the agent that blocks it is named (0: never)
    watchdog_s: float = 1.0

    # turns
    max_input_chars: int = 1_000_000
    # those of a turn or a session, written as JSON
    max_metadata_bytes: int = 65_536
    max_metadata_depth: int = 16
    approval_ttl_s: float = 3_600.0
    max_output_bytes: int = 4 * 2**20
    max_events: int = 100_000
    max_state_bytes: int = 16 * 2**20
    max_nesting: int = 8
    # events between two writes to the store while a turn runs
    flush_events: int = 64
    # webhooks: how long a try may take, how many at a time; the pause between two tries doubles
    webhook_timeout_s: float = 10.0
    webhook_parallel: int = 32
    webhook_first_s: float = 1.0
    webhook_max_s: float = 3_600.0
    webhook_tries: int = 30
    # how long `async with` waits for running turns when it is left
    close_deadline_s: float = 5.0

    def __post_init__(self) -> None:
        _at_least(
            self, 1, "queue_max", "start_limit", "max_attempts", "max_output_bytes", "max_events"
        )
        _at_least(self, 1, "max_state_bytes", "max_nesting", "flush_events")
        _at_least(self, 1, "max_input_chars", "max_metadata_bytes", "max_metadata_depth")
        _at_least(self, 1, "webhook_parallel", "webhook_tries")
        _at_least(self, 0, "restarts_max", "watchdog_s", "close_deadline_s", "overload_wait_s")
        for field in fields(self):
            if field.name.endswith("_s") and field.name not in (
                "watchdog_s",
                "close_deadline_s",
                "overload_wait_s",
            ):
                _above_zero(self, field.name)
        for name in ("tenant_share", "limit_decrease"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(name, getattr(self, name), "write a number above 0, at most 1")
        for tenant, weight in self.tenant_weights.items():
            if not (isfinite(weight) and weight > 0):
                raise ConfigError(f"tenant_weights.{tenant}", weight, "write a number above 0")
        for first, most in (
            ("backoff_first_s", "backoff_max_s"),
            ("webhook_first_s", "webhook_max_s"),
        ):
            if getattr(self, first) > getattr(self, most):
                raise ConfigError(first, getattr(self, first), f"at most {most}")

    @property
    def tenant_queue_max(self) -> int:
        """How many turns one tenant may have waiting for one agent."""
        return max(1, int(self.queue_max * self.tenant_share))


def _at_least(config: Struct, least: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isfinite(value) or value < least:
            raise ConfigError(name, value, f"write a number of at least {least}")


def _above_zero(config: Struct, name: str) -> None:
    value = getattr(config, name)
    if not (isfinite(value) and value > 0):
        raise ConfigError(name, value, "write a number of seconds above 0")
