"""However hostile a text is, the work of redacting it grows as its length does.

Not measured but counted: no pattern can go back over what it has read, the checks that follow are
bounded, and a megabyte of each kind of malice is looked through.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from pool.guard import redact_finders, redact_numbers, redact_placeholders, redact_secrets
from pool.guard.redact import Redactor
from pool.guard.redact_numbers import ASKED_MAX, KnownNumbers
from tests.support.patterns import most_steps

MEGABYTE = 2**20

HOSTILE = [
    "a",
    "a@",
    "a@b.",
    "[email-",
    ":",
    "1.1.1.1",
    "+1 ",
    "+1 212 555 0100 ",
    "030 1234567 ",
    "1-(",
    "400 ",
    "4000 ",
    "4000-0000-0000-0",
    "DE00 ",
    "DE89 3704 0044 0532 0130 0",
    "eyJaaaaaaaa-",
    "ghp_" + "a" * 35 + " ",
    "://a:",
    "aws_secret_access_key=        ",
    "-----BEGIN PRIVATE KEY-----",
]


class CountingNumbers(KnownNumbers):
    """Counts the characters that checks are asked about."""

    asked = 0
    # pieces that the library was given to look for phone numbers
    searched = 0

    def is_card(self, digits: str) -> bool:
        self.asked += len(digits)
        return super().is_card(digits)

    def iban_length(self, country: str) -> int:
        self.asked += len(country)
        return super().iban_length(country)

    def _matches(self, candidate: str) -> Iterator[tuple[int, int]]:
        assert len(candidate) < 100
        self.searched += 1
        return super()._matches(candidate)

    def is_iban(self, text: str) -> bool:
        self.asked += len(text)
        return super().is_iban(text)


def _patterns(*modules: ModuleType) -> Iterator[tuple[str, re.Pattern[str]]]:
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                yield name, value


PATTERNS = dict(_patterns(redact_finders, redact_numbers, redact_placeholders, redact_secrets))


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_goes_back_over_what_it_has_read(name: str) -> None:
    """And what it reads without bound it reads once."""
    assert most_steps(PATTERNS[name]) < 1_000


@pytest.mark.parametrize("pattern", [r"(a*)*b", r"a+b", r"a++b", r"(?<![b])a++", r"a{1,5}"])
def test_patterns_that_could_are_told(pattern: str) -> None:
    """The measure itself: what backtracks, or begins in what it reads, does not pass."""
    with pytest.raises(AssertionError):
        most_steps(re.compile(pattern))


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_megabyte_is_looked_through(piece: str) -> None:
    """The checks are asked about no more than eight times its length; it comes back as it was."""
    numbers = CountingNumbers("DE")
    text = (piece * (MEGABYTE // len(piece) + 1))[:MEGABYTE]
    result = Redactor(numbers=numbers).redact(text)
    assert numbers.asked <= 8 * MEGABYTE
    assert numbers.searched <= ASKED_MAX
    if len(result.placeholders) < 10_000:
        assert result.restore(result.text) == text
