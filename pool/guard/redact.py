"""Takes personal data and secrets out of texts, and puts them back.

    redactor = Redactor()
    redacted = redactor.redact("write to ann@example.com")
    redacted.text                       # "write to [email-1]"
    redacted.restore("sent to [email-1]")  # "sent to ann@example.com"

It finds what can be told by its looks; a name or an address in words is not among that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, get_args

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.redact_finders import NumberFinder, addresses, emails
from pool.guard.redact_numbers import Numbers, PlainNumbers
from pool.guard.redact_placeholders import Placeholders, RestoringStream, literals, map_texts
from pool.guard.redact_secrets import secrets
from pool.guard.redact_spans import Finder, Kind, apart

# `logs`: what is logged is redacted. `model`: so is what goes to a model, and what comes back is
# restored.
Mode = Literal["off", "logs", "model"]

KINDS: Final[tuple[Kind, ...]] = ("secret", "email", "iban", "card", "phone", "ip")


class RedactionConfig(Struct, frozen=True, kw_only=True):
    """What is redacted, and for whom. `tenants`: those for whom another mode holds than `mode`."""

    mode: Mode = "off"
    tenants: Mapping[str, Mode] = {}
    kinds: tuple[Kind, ...] = KINDS

    def __post_init__(self) -> None:
        for option, mode in (
            ("mode", self.mode),
            *((f"tenants.{tenant}", mode) for tenant, mode in self.tenants.items()),
        ):
            if mode not in get_args(Mode):
                raise ConfigError(option, mode, "write off, logs or model")
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError("kinds", kind, f"there is no such kind; there is: {KINDS}")

    def mode_of(self, tenant: str) -> Mode:
        """The tenant's mode."""
        return self.tenants.get(tenant, self.mode)


class Redacted(Struct, frozen=True):
    """A text without what was found in it. `found`: how much of each kind."""

    text: str
    found: Mapping[Kind, int]
    placeholders: Placeholders

    def restore(self, text: str) -> str:
        """A text with the values in place of their placeholders."""
        return self.placeholders.restore(text)

    def restoring(self) -> RestoringStream:
        """Restores a text that comes in pieces."""
        return RestoringStream(self.placeholders)


class Redactor:
    """Finds `kinds` of personal data and secrets. `numbers`: what is known about numbers."""

    def __init__(self, kinds: Collection[Kind] = KINDS, *, numbers: Numbers | None = None) -> None:
        found_by = NumberFinder(numbers or PlainNumbers())
        finders: dict[Kind, Finder] = {
            "secret": secrets,
            "email": emails,
            "iban": found_by.ibans,
            "card": found_by.cards,
            "phone": found_by.phones,
            "ip": addresses,
        }
        self._finders: tuple[Finder, ...] = (
            literals,
            *(finder for kind, finder in finders.items() if kind in kinds),
        )

    def redact(self, text: str, placeholders: Placeholders | None = None) -> Redacted:
        """The text with placeholders for what was found; those given are used again and added to,
        so that a value has one placeholder in all texts of a session.
        """
        if placeholders is None:
            placeholders = Placeholders()
        spans = apart(span for finder in self._finders for span in finder(text))
        if not spans:
            return Redacted(text, {}, placeholders)
        parts: list[str] = []
        end = 0
        for span in spans:
            parts.append(text[end : span.start])
            parts.append(placeholders.of(span.kind, text[span.start : span.end]))
            end = span.end
        parts.append(text[end:])
        found: Counter[Kind] = Counter(span.kind for span in spans if span.kind != "literal")
        return Redacted("".join(parts), found, placeholders)

    def redact_value(self, value: Any, placeholders: Placeholders) -> Any:
        """A JSON value, such as a tool's result, with all texts in it redacted; `TooLarge` if it is
        nested deeper than 100.
        """
        return map_texts(value, lambda text: self.redact(text, placeholders).text)
