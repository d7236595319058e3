"""What is done about inputs that look like attempts to take over a model's instructions, as
options.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.screen import Action, ScreenConfig


class ScreenSettings(Struct, frozen=True, kw_only=True):
    """How inputs are screened.

    `action`: what follows for a suspicious one (`off`: nobody looks). `classifier`
    ("module:function") is asked about what no rule matches: an async function of the text that says
    how suspicious it is, from 0 to 1. The others are those of `ScreenConfig`.
    """

    action: Literal["off", "flag", "refuse"] = "off"
    classifier: str | None = None
    threshold: float = 0.8
    timeout_s: float = 2.0
    unanswered: Action = "flag"

    def __post_init__(self) -> None:
        if self.action == "off" and self.classifier is not None:
            remedy = 'nobody asks it: write action = "flag" or "refuse" as well'
            raise ConfigError("classifier", self.classifier, remedy)
        # a mistake is one whether or not somebody looks
        self._config("flag")

    @property
    def config(self) -> ScreenConfig | None:
        """How a screen is to work; None: there is none."""
        return None if self.action == "off" else self._config(self.action)

    def _config(self, action: Literal["flag", "refuse"]) -> ScreenConfig:
        return ScreenConfig(
            action=action,
            threshold=self.threshold,
            timeout_s=self.timeout_s,
            unanswered=self.unanswered,
        )
