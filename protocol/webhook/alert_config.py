"""What an operator says about alerts."""

from __future__ import annotations

from math import isfinite
from typing import get_args

from pool.errors import ConfigError, InvalidRequest
from pool.guard.budget_notices import Outcome
from protocol.webhook.config import WebhookConfig
from protocol.webhook.urls import checked


class AlertConfig(WebhookConfig, frozen=True, kw_only=True):
    """Where budgets' alerts are posted: to `url`, signed with `secret`; without a URL nowhere.

    `outcomes`: which are told. `again_s`: what was told is told again after so many seconds, with
    how often it happened. `buffer_max`: alerts that may wait; beyond it the oldest are dropped.
    """

    url: str = ""
    outcomes: tuple[Outcome, ...] = ("alert", "refused")
    again_s: float = 300.0
    buffer_max: int = 1_000

    def __post_init__(self) -> None:
        WebhookConfig.__post_init__(self)
        for outcome in self.outcomes:
            if outcome not in get_args(Outcome):
                raise ConfigError("outcomes", outcome, "write " + ", ".join(get_args(Outcome)))
        if not (isfinite(self.again_s) and self.again_s >= 0):
            raise ConfigError("again_s", self.again_s, "write a number of seconds, 0 for always")
        if self.buffer_max < 1:
            raise ConfigError("buffer_max", self.buffer_max, "write a number of at least 1")
        if self.url:
            self._check_url()

    def __repr__(self) -> str:
        return f"<AlertConfig {'to a URL' if self.url else 'none'}, {', '.join(self.outcomes)}>"

    def _check_url(self) -> None:
        if not self.secret:
            raise ConfigError("secret", None, "alerts are signed: write one as for webhooks")
        try:
            checked(self.url, self)
        except InvalidRequest as refused:
            remedy = f"{refused.detail}; allow_private and allow_http of [alerts] say what may be"
            raise ConfigError("url", "...", remedy) from None
