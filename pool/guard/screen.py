"""Screens texts for attempts to take over a model's instructions.

A screen finds clumsy attempts, and is no defence by itself: what a model may do is decided by the
gate, whoever talked it into asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import isfinite
from typing import Final, Literal, get_args

import structlog
from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.screen_rules import RULES, Rule, plain

Action = Literal["pass", "flag", "refuse"]

# How suspicious a text is, from 0 (not at all) to 1. It may take its time: it is awaited.
Classifier = Callable[[str], Awaitable[float]]

# What the verdict names when it was the classifier's, and when that did not answer.
CLASSIFIER: Final = "classifier"
UNANSWERED: Final = "classifier_unanswered"

# What is matched within a few milliseconds.
_LONG_CHARS: Final = 50_000

_log = structlog.get_logger("pool.guard.screen")


class ScreenConfig(Struct, frozen=True, kw_only=True):
    """How texts are screened.

    `action`: what follows for a suspicious text. `threshold`: from which score of the classifier on
    it is one. `timeout_s`: how long that may take; if it fails, `unanswered` follows.
    """

    action: Literal["flag", "refuse"] = "flag"
    threshold: float = 0.8
    timeout_s: float = 2.0
    unanswered: Action = "flag"

    def __post_init__(self) -> None:
        if self.action not in ("flag", "refuse"):
            raise ConfigError("action", self.action, "write flag or refuse")
        if self.unanswered not in get_args(Action):
            raise ConfigError("unanswered", self.unanswered, "write pass, flag or refuse")
        if not 0 < self.threshold <= 1:
            raise ConfigError("threshold", self.threshold, "write a number above 0, at most 1")
        if not (isfinite(self.timeout_s) and self.timeout_s > 0):
            raise ConfigError("timeout_s", self.timeout_s, "write a number of seconds above 0")


class Verdict(Struct, frozen=True):
    """What follows for a text, and the names of the rules that say so (never what was said)."""

    action: Action = "pass"
    rules: tuple[str, ...] = ()


class Screen:
    """Matches rules, and asks a classifier about what no rule matches."""

    def __init__(
        self,
        config: ScreenConfig | None = None,
        *,
        rules: Sequence[Rule] = RULES,
        classifier: Classifier | None = None,
    ) -> None:
        self._config = config or ScreenConfig()
        self._rules = tuple(rules)
        self._classifier = classifier

    def matching(self, text: str) -> tuple[str, ...]:
        """The names of the rules that match."""
        seen = plain(text)
        return tuple(rule.name for rule in self._rules if rule.pattern.search(seen))

    async def check(self, text: str) -> Verdict:
        """What is to follow for the text."""
        # in a thread, if the loop would stand still for it
        long = len(text) > _LONG_CHARS
        rules = await asyncio.to_thread(self.matching, text) if long else self.matching(text)
        if rules:
            return Verdict(self._config.action, rules)
        if self._classifier is None:
            return Verdict()
        return await self._classified(text, self._classifier)

    async def _classified(self, text: str, classifier: Classifier) -> Verdict:
        try:
            async with asyncio.timeout(self._config.timeout_s):
                score = await classifier(text)
        except Exception as error:
            # somebody else's code, or its network: whatever it raises, there is no answer
            _log.warning(
                "prompt classifier did not answer",
                error=type(error).__name__,
                action=self._config.unanswered,
            )
            return Verdict(self._config.unanswered, (UNANSWERED,))
        # one that is no number (NaN) is no reassurance
        if not score < self._config.threshold:
            return Verdict(self._config.action, (CLASSIFIER,))
        return Verdict()
