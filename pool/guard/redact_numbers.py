"""Which numbers are cards, bank accounts and phones: python-stdnum and phonenumbers know.

Both come with the extra `actorpool[privacy]`; this module is loaded where numbers are looked for.
The libraries are asked about short pieces that our own patterns found, never to search a text: on a
hostile one `PhoneNumberMatcher` takes 20 ms a kilobyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import phonenumbers
from stdnum import iban, luhn, numdb

from pool.errors import ConfigError

# About so many pieces of one text the library is asked, at 0.03 to 0.3 ms each. Further ones count
# as phone numbers: rather one too many than one too few.
ASKED_MAX: Final = 500

_REST: Final = r"(?:[ ()./-]{0,2}+[0-9]){6,20}+"
INTERNATIONAL: Final = re.compile(rf"(?<![\w+])\+[1-9]{_REST}")
# also as it is written within a country
NATIONAL: Final = re.compile(rf"(?<![\w+])(?<![0-9][.,/-])(?:\+[1-9]|\(?+[0-9]){_REST}(?!\w)")

# how the length of a part of an IBAN is written: 18!n
_PART: Final = re.compile(r"([0-9]{1,2}+)!")


class KnownNumbers:
    """What the libraries know. `region`: two capitals that name a country; numbers are found as
    they are written there, besides those that begin with a plus and a country (None: only those).
    """

    def __init__(self, region: str | None = None) -> None:
        if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
            raise ConfigError("privacy.region", region, 'write the two capitals of a country, "DE"')
        self._region = region
        self._candidates = INTERNATIONAL if region is None else NATIONAL
        self._countries = numdb.get("iban")
        self._iban_lengths: dict[str, int] = {}

    def is_card(self, digits: str) -> bool:
        """Whether the check digit is right (ISO/IEC 7812-1, annex B: Luhn)."""
        return luhn.is_valid(digits)

    def iban_length(self, country: str) -> int:
        """How many characters an IBAN of the country has (ISO 13616); 0: it has none."""
        length = self._iban_lengths.get(country)
        if length is None:
            _, known = self._countries.info(country)[0]
            parts = _PART.findall(known.get("bban", ""))
            length = self._iban_lengths[country] = 4 + sum(map(int, parts)) if parts else 0
        return length

    def is_iban(self, text: str) -> bool:
        """Whether the check digits are right (ISO 7064, mod 97-10), and the parts as they are."""
        return iban.is_valid(text, check_country=False)

    def phones(self, text: str) -> Iterator[tuple[int, int]]:
        """Where phone numbers begin and end: with a plus what may be one, without what is one."""
        if self._region is None and "+" not in text:
            return
        asked = 0
        for found in self._candidates.finditer(text):
            asked += 1
            if asked > ASKED_MAX:
                yield found.span()
                continue
            for start, end in self._matches(found[0]):
                yield found.start() + start, found.start() + end

    def _matches(self, candidate: str) -> Iterator[tuple[int, int]]:
        kinds = phonenumbers.Leniency
        leniency = kinds.POSSIBLE if candidate[0] == "+" else kinds.VALID
        for match in phonenumbers.PhoneNumberMatcher(candidate, self._region, leniency=leniency):
            yield match.start, match.end
