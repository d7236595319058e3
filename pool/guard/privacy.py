"""Keeps personal data and secrets out of logs, and out of models, as a configuration says.

    privacy = privacy_of(PrivacyConfig(default="logs", tenants={"acme": "model"}))
    logs, lines = configure(redact=privacy and privacy.logs)
    pool = AgentPool(agent, privacy=privacy, observers=(logs,))

`pool.veiled` runs the agents, `pool.guard.veil` is what stands between them and their turns.
"""

from __future__ import annotations

from collections.abc import Collection

from pool.guard.privacy_config import PrivacyConfig
from pool.guard.redact import NUMBERS, Redactor, known_numbers
from pool.guard.redact_logs import RedactLogs


class Privacy:
    """What a process needs to do as a configuration says. `known`: secrets of the process itself
    (see `Redactor`). `ConfigError` if the configuration needs a package that is not installed.
    """

    def __init__(self, config: PrivacyConfig, *, known: Collection[str] = ()) -> None:
        numbers = None
        if not NUMBERS.isdisjoint(config.kinds):
            numbers = known_numbers(config.region)
        self._config = config
        self._redactor = Redactor(config.kinds, numbers=numbers, known=known)
        self.logs = RedactLogs(self._redactor)

    def __repr__(self) -> str:
        return f"<Privacy {self._config.default!r}, {len(self._config.tenants)} tenants differ>"

    def redactor(self, tenant: str) -> Redactor | None:
        """What finds the things that a tenant's models are not to see; None: they see all."""
        return self._redactor if self._config.mode_of(tenant) == "model" else None


def privacy_of(config: PrivacyConfig, *, known: Collection[str] = ()) -> Privacy | None:
    """What the configuration asks for; None if that is nothing."""
    return None if config.off else Privacy(config, known=known)
