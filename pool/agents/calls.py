"""The rules by which models are called, and what all calls share: what is known of a provider is
known to every actor, and to every agent that was given the same `ModelCalls`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from msgspec import Struct

from pool.agents.call_guard import CallGuard
from pool.clock import clock_of
from pool.errors import ConfigError
from pool.guard.breaker import Breaker, BreakerRule, Breakers, BreakerState
from pool.guard.pacing import PaceRule, Paces
from pool.guard.retrying import RetryBudget, Retrying, RetryRule


class CallRules(Struct, frozen=True, kw_only=True):
    """How models are called. By default: once, at any time.

    `retries`: how often a call that failed is tried again, unless something of its answer was told
    already; after a pause of about `retry_first_s` seconds, doubled each time, at most
    `retry_max_s`. All retries at one provider are at most a fifth of the calls.

    `breaker_failures`: failures in a row (overload, silence, broken connections) after which a
    model is left alone for `breaker_reset_s` seconds, and a provider that cannot be reached (0:
    never).

    `calls_max`: calls of one model within any `calls_window_s` seconds (None: any number).
    """

    retries: int = 0
    retry_first_s: float = 0.5
    retry_max_s: float = 20.0
    breaker_failures: int = 0
    breaker_reset_s: float = 30.0
    calls_max: int | None = None
    calls_window_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("retries", "breaker_failures"):
            if getattr(self, name) < 0:
                raise ConfigError(name, getattr(self, name), "write a number, 0 for none")
        # what is wrong with the others is found as it is with these
        _ = self.retry, self.breaker, self.pace

    @property
    def retry(self) -> RetryRule | None:
        """When a call is tried again; None: never."""
        if not self.retries:
            return None
        return RetryRule(retries=self.retries, first_s=self.retry_first_s, max_s=self.retry_max_s)

    @property
    def breaker(self) -> BreakerRule | None:
        """When breakers open; None: there are none."""
        if not self.breaker_failures:
            return None
        try:
            return BreakerRule(failures=self.breaker_failures, reset_s=self.breaker_reset_s)
        except ConfigError as mistake:
            option = f"breaker_{mistake.option}"
            raise ConfigError(option, mistake.value, mistake.remedy) from None

    @property
    def pace(self) -> PaceRule | None:
        """How many calls there may be; None: any number."""
        if self.calls_max is None:
            return None
        return PaceRule(calls=self.calls_max, window_s=self.calls_window_s)


class ModelCalls:
    """What all calls of models share. One for each set of rules; two of them never meet.

    `clock` is in seconds (default: the running loop's). `ConfigError` if a package is missing.
    """

    def __init__(
        self,
        rules: CallRules = CallRules(),  # noqa: B008 - frozen
        *,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        self.rules = rules
        retry, breaker, pace = rules.retry, rules.breaker, rules.pace
        self._clock = clock or _loop_time
        self._retrying = (
            None if retry is None else Retrying(retry, clock=self._clock, random=random or Random())
        )
        self._breakers = (
            None if breaker is None else Breakers(breaker, clock=self._clock, changed=self._note)
        )
        self._paces = None if pace is None else Paces(pace)
        # by provider
        self._budgets: dict[str, RetryBudget] = {}
        # the names of breakers that let not every call through
        self._tripped: set[str] = set()

    def __repr__(self) -> str:
        return f"<ModelCalls [{self.tripped} breakers tripped]>"

    @property
    def tripped(self) -> int:
        """How many circuit breakers do not let every call through now."""
        return len(self._tripped)

    def reach(self, provider: str) -> Breaker | None:
        """The breaker of a provider, by its address: whether it can be reached."""
        return None if self._breakers is None else self._breakers.of(provider)

    def guard(self, provider: str, model: str) -> CallGuard | None:
        """How that model of that provider is called; None: without further ado."""
        if self._retrying is None and self._breakers is None and self._paces is None:
            return None
        name = f"{provider} {model}"
        return CallGuard(
            retrying=self._retrying,
            budget=self._budgets.setdefault(provider, RetryBudget()),
            breaker=None if self._breakers is None else self._breakers.of(name),
            pace=None if self._paces is None else self._paces.of(name),
            clock=self._clock,
            reach=self.reach(provider),
        )

    def _note(self, name: str, state: BreakerState) -> None:
        if state == "closed":
            self._tripped.discard(name)
        else:
            self._tripped.add(name)


def _loop_time() -> float:
    return clock_of(asyncio.get_running_loop())()
