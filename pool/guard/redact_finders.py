"""Finds personal data: e-mail addresses, cards, bank accounts, phone numbers, IP addresses.

Patterns find what may be one and checks decide. No pattern goes back over what it has read, and
each begins only where a run of the characters that it reads without bound begins: a text is read
through once, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from pool.guard.redact_spans import Span

EMAIL: Final = re.compile(r"(?<![\w.%+-])[\w.%+-]++@[\w-]++(?:\.[\w-]++)++")
CARD_START: Final = re.compile(r"(?<![\w.])[2-6][0-9]{3,18}+(?!\w)")
CARD_GROUP: Final = re.compile(r"[ \u00a0-][0-9]{3,15}+(?!\w)")
IBAN_START: Final = re.compile(r"(?<![A-Za-z0-9_])[A-Za-z]{2}[0-9]{2}(?=[ A-Za-z0-9])")
IPV4: Final = re.compile(r"(?<![\w.])[0-9]{1,3}+(?:\.[0-9]{1,3}+){3}+(?![\w]|\.[0-9])")
IPV6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}+:[0-9A-Fa-f:.]++(?!\w)")

CARD_DIGITS: Final = range(13, 20)
IBAN_MAX: Final = 34


class Numbers(Protocol):
    """Tells the numbers that mean something from those that do not."""

    def is_card(self, digits: str) -> bool:
        """Whether 12 to 19 digits are the number of a payment card."""

    def iban_length(self, country: str) -> int:
        """How many characters an IBAN of the country (two capitals) has; 0: it has none."""

    def is_iban(self, text: str) -> bool:
        """Whether capitals and digits without spaces are an IBAN."""

    def phones(self, text: str) -> Iterator[tuple[int, int]]:
        """Where phone numbers begin and end, in one pass over the text."""


def emails(text: str) -> Iterator[Span]:
    """Addresses whose domain has a dot, and no number for its last part."""
    if "@" not in text:
        return
    for found in EMAIL.finditer(text):
        if not found.group().rpartition(".")[2].isdigit():
            yield Span(*found.span(), "email")


def addresses(text: str) -> Iterator[Span]:
    """IPv4 and IPv6 addresses, but for those that are nobody's: none at all, and this machine."""
    for found in IPV4.finditer(text):
        if _is_ipv4(found.group()):
            yield Span(*found.span(), "ip")
    if ":" not in text:
        return
    for found in IPV6.finditer(text):
        # a sentence may end behind it
        candidate = found.group().rstrip(".")
        if candidate.endswith(":") and not candidate.endswith("::"):
            candidate = candidate[:-1]
        if _is_ipv6(candidate):
            yield Span(found.start(), found.start() + len(candidate), "ip")


class NumberFinder:
    """Finds what `Numbers` knows."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers

    def cards(self, text: str) -> Iterator[Span]:
        """Cards: 13 to 19 digits, in groups of three or more, of four or more at first."""
        end = 0
        for found in CARD_START.finditer(text):
            if found.start() < end:
                continue
            end = self._card_end(text, found.start(), found.end())
            if end:
                yield Span(found.start(), end, "card")

    def ibans(self, text: str) -> Iterator[Span]:
        """IBANs of countries that have them, in one piece or with single spaces."""
        for found in IBAN_START.finditer(text):
            length = self._numbers.iban_length(found.group()[:2].upper())
            end = _end_of(length, text, found.start()) if length else 0
            if end and self._numbers.is_iban(text[found.start() : end].replace(" ", "").upper()):
                yield Span(found.start(), end, "iban")

    def phones(self, text: str) -> Iterator[Span]:
        """Phone numbers."""
        return (Span(start, end, "phone") for start, end in self._numbers.phones(text))

    def _card_end(self, text: str, start: int, end: int) -> int:
        """Where the longest card ends that begins with this group of digits; 0 if none does."""
        longest = 0
        digits = text[start:end]
        while len(digits) < CARD_DIGITS.stop:
            if len(digits) in CARD_DIGITS and self._numbers.is_card(digits):
                longest = end
            more = CARD_GROUP.match(text, end)
            if more is None:
                break
            digits += more.group()[1:]
            end = more.end()
        return longest


def _end_of(length: int, text: str, start: int) -> int:
    """Where so many letters and digits of ASCII end, with single spaces between; 0 if they do not,
    or go on.
    """
    left = length
    for place in range(start, min(start + 2 * IBAN_MAX, len(text))):
        each = text[place]
        if each.isascii() and each.isalnum():
            left -= 1
            if left == 0:
                return 0 if text[place + 1 : place + 2].isalnum() else place + 1
        elif each != " " or text[place - 1] == " ":
            return 0
    return 0


def _is_ipv4(text: str) -> bool:
    try:
        address = IPv4Address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)


def _is_ipv6(text: str) -> bool:
    # the longest is written with 45 characters
    if len(text) > 45:
        return False
    try:
        address = IPv6Address(text)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)
