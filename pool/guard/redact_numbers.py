"""Which numbers are cards, bank accounts and phones.

All that is known about numbers is behind `Numbers`, so that a library that knows more can take the
place of `PlainNumbers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol


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


class PlainNumbers:
    """Check digits, and phone numbers only as they are written internationally: `+49 30 123456`."""

    def is_card(self, digits: str) -> bool:
        """Whether the check digit is right (ISO/IEC 7812-1, annex B: Luhn)."""
        last_first = digits[::-1]
        plain = sum(map(int, last_first[::2]))
        return (plain + sum(_DOUBLED[each] for each in last_first[1::2])) % 10 == 0

    def iban_length(self, country: str) -> int:
        """As in the IBAN registry (ISO 13616)."""
        return _IBAN_LENGTHS.get(country, 0)

    def is_iban(self, text: str) -> bool:
        """Whether the check digits are right (ISO 7064, mod 97-10)."""
        return int("".join(str(int(each, 36)) for each in text[4:] + text[:4])) % 97 == 1

    def phones(self, text: str) -> Iterator[tuple[int, int]]:
        """A plus, a country, and 8 to 15 digits in all (E.164), in groups or not."""
        if "+" in text:
            yield from (found.span() for found in PHONE.finditer(text))


PHONE: Final = re.compile(r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}+[0-9]){7,14}+(?![0-9])")

# twice the digit, less 9 if that has two digits
_DOUBLED: Final = {str(digit): sum(divmod(2 * digit, 10)) for digit in range(10)}

_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
