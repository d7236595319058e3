"""Redacts what is logged: a step for structlog's chain of processors."""

from __future__ import annotations

from collections.abc import MutableMapping
from ipaddress import ip_address
from typing import Any

from msgspec import to_builtins

from pool.errors import TooLarge
from pool.guard.redact import Redactor
from pool.guard.redact_placeholders import Placeholders

Fields = MutableMapping[str, Any]


class RedactLogs:
    """Takes personal data and secrets out of the values of lines, whosever lines they are.

    Placeholders are counted anew in each line: nothing is kept. The address of a `client` stays:
    an operator has to know where somebody comes from who tries to get in.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _logger: Any, _method: str, fields: Fields) -> Fields:
        """The fields of the line, redacted."""
        placeholders = Placeholders()
        for name, value in fields.items():
            if name != "client" or not _is_address(value):
                fields[name] = self._redacted(value, placeholders)
        return fields

    def texts(self, *texts: str) -> tuple[str, ...]:
        """Texts of one line, redacted."""
        placeholders = Placeholders()
        return tuple(self._redactor.redact(text, placeholders).text for text in texts)

    def _redacted(self, value: Any, placeholders: Placeholders) -> Any:
        try:
            plain = value if isinstance(value, str) else to_builtins(value, enc_hook=_type_name)
            return self._redactor.redact_value(plain, placeholders)
        except (TooLarge, RecursionError):
            # what cannot be looked through is not logged
            return "[nested too deep]"


def _is_address(value: object) -> bool:
    try:
        ip_address(str(value))
    except ValueError:
        return False
    return True


def _type_name(value: object) -> str:
    return f"<{type(value).__qualname__}>"
