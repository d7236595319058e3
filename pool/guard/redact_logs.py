"""Redacts what is logged: a step for structlog's chain of processors."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from pool.errors import TooLarge
from pool.guard.redact import RedactionConfig, Redactor
from pool.guard.redact_placeholders import Placeholders

Fields = MutableMapping[str, Any]


class RedactLogs:
    """Takes personal data and secrets out of the values of a line, unless its tenant's mode is off.

    Whose line it is its field `tenant` says; without one it is the default mode that counts.
    Placeholders are counted anew in each line: nothing is kept.
    """

    def __init__(self, config: RedactionConfig, redactor: Redactor | None = None) -> None:
        self._config = config
        self._redactor = redactor or Redactor(config.kinds)

    def __call__(self, _logger: Any, _method: str, fields: Fields) -> Fields:
        """The fields of the line, redacted."""
        if self._config.mode_of(str(fields.get("tenant", ""))) == "off":
            return fields
        placeholders = Placeholders()
        for name, value in fields.items():
            fields[name] = self._redacted(value, placeholders)
        return fields

    def _redacted(self, value: Any, placeholders: Placeholders) -> Any:
        try:
            return self._redactor.redact_value(value, placeholders)
        except TooLarge:
            # what cannot be looked through is not logged
            return "[nested too deep]"
