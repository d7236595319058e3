"""Numbers are told by libraries that know countries; phones also as a country writes them."""

from __future__ import annotations

import pytest

from pool.errors import ConfigError
from pool.guard.redact import Redactor
from pool.guard.redact_numbers import ASKED_MAX, KnownNumbers


def redacted(text: str, region: str | None = None) -> str:
    """The text without phone numbers."""
    return Redactor(("phone",), numbers=KnownNumbers(region)).redact(text).text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("call 030 12345678 now", "call [phone-1] now"),
        ("0171-1234567, or +1 212 555 0100.", "[phone-1], or [phone-2]."),
        ("(030) 1234567", "[phone-1]"),
        ("on 2024-11-21 at 12:30, 12.11.2024", "on 2024-11-21 at 12:30, 12.11.2024"),
        ("order 1234567890, 203.0.113.7", "order 1234567890, 203.0.113.7"),
        ("a030 12345678, 030 12345678b", "a030 12345678, 030 12345678b"),
    ],
)
def test_phones_are_found_as_a_region_writes_them(text: str, left: str) -> None:
    """And those with a plus; dates, addresses and other numbers are none."""
    assert redacted(text, "DE") == left


def test_without_a_region_only_a_plus_makes_a_phone() -> None:
    """What the same digits mean depends on the country."""
    assert redacted("030 12345678, +49 30 12345678") == "030 12345678, [phone-1]"


def test_past_the_most_that_is_asked_what_may_be_a_phone_is_one() -> None:
    """Rather one too many than one too few."""
    assert redacted("+999 1234567 ") == "+999 1234567 "
    many = redacted("+999 1234567 " * (ASKED_MAX + 2))
    assert many == "+999 1234567 " * ASKED_MAX + "[phone-1] [phone-1] "


def test_a_region_that_does_not_exist_is_named() -> None:
    """When it is configured."""
    with pytest.raises(ConfigError, match=r"^privacy\.region = 'XX': write the two capitals"):
        KnownNumbers("XX")


@pytest.mark.parametrize(("country", "length"), [("DE", 22), ("NO", 15), ("MT", 31), ("ZZ", 0)])
def test_ibans_have_the_length_of_their_country(country: str, length: int) -> None:
    """Each time it is asked."""
    numbers = KnownNumbers()
    assert [numbers.iban_length(country) for _ in range(2)] == [length] * 2
