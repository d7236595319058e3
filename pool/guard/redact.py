"""Takes personal data and secrets out of texts, and puts them back.

    redactor = Redactor()
    redacted = redactor.redact("write to ann@example.com")
    redacted.text                       # "write to [email-1]"
    redacted.restore("sent to [email-1]")  # "sent to ann@example.com"

It finds what can be told by its looks; a name or an address in words is not among that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from pool.errors import ConfigError
from pool.guard.redact_finders import NumberFinder, Numbers, addresses, emails
from pool.guard.redact_placeholders import Placeholders, literals, map_texts
from pool.guard.redact_secrets import secrets
from pool.guard.redact_spans import KINDS, Finder, Kind, Span, apart

# A shorter word would be found in the middle of others.
KNOWN_MIN: Final = 8

# Those that need somebody who knows about numbers.
NUMBERS: Final[frozenset[Kind]] = frozenset({"iban", "card", "phone"})


class Redacted(Struct, frozen=True):
    """A text without what was found in it. `found`: how much of each kind."""

    text: str
    found: Mapping[Kind, int]
    placeholders: Placeholders

    def restore(self, text: str) -> str:
        """A text with the values in place of their placeholders."""
        return self.placeholders.restore(text)


class Redactor:
    """Finds `kinds` of personal data and secrets.

    `numbers`: what is known about numbers (default: what the extra `actorpool[privacy]` knows; it
    is needed only for those kinds). `known`: secrets that look like nothing in particular, such as
    the process's own; those of less than 8 characters are left.
    """

    def __init__(
        self,
        kinds: Sequence[Kind] = KINDS,
        *,
        numbers: Numbers | None = None,
        known: Collection[str] = (),
    ) -> None:
        finders: dict[Kind, Finder] = {"secret": secrets, "email": emails, "ip": addresses}
        if not NUMBERS.isdisjoint(kinds):
            found_by = NumberFinder(numbers or known_numbers())
            finders["iban"] = found_by.ibans
            finders["card"] = found_by.cards
            finders["phone"] = found_by.phones
        self._finders: tuple[Finder, ...] = (
            literals,
            *_finders_of(known),
            *(finders[kind] for kind in KINDS if kind in kinds),
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


def known_numbers(region: str | None = None) -> Numbers:
    """What python-stdnum and phonenumbers know; `ConfigError` if they are not installed, or there
    is no such region (see `KnownNumbers`).
    """
    try:
        from pool.guard.redact_numbers import KnownNumbers
    except ModuleNotFoundError as error:
        if error.name not in ("phonenumbers", "stdnum"):
            raise
        remedy = 'finding numbers needs other packages: pip install "actorpool[privacy]"'
        raise ConfigError("privacy", error.name, remedy) from None
    return KnownNumbers(region)


def _finders_of(known: Collection[str]) -> Iterator[Finder]:
    words = sorted({each for each in known if len(each) >= KNOWN_MIN}, key=len, reverse=True)
    if words:
        pattern = re.compile("|".join(map(re.escape, words)))
        yield lambda text: [Span(*found.span(), "secret") for found in pattern.finditer(text)]
