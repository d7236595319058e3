"""Personal data and secrets are taken out of texts, and nothing else; and they come back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import TooLarge
from pool.guard.redact import Redactor
from pool.guard.redact_placeholders import Placeholders

REDACTOR = Redactor()

FOUND = [
    ("write to ann@example.com.", "write to [email-1]."),
    ("<Ann.O'Neil+x@mail.example.co.uk>", "<Ann.O'[email-1]>"),
    ("jürgen@müller.example", "[email-1]"),
    ("a" * 200 + "@example.com", "[email-1]"),
    ("card 4111 1111 1111 1111, exp 12/27", "card [card-1], exp 12/27"),
    ("4111-1111-1111-1111", "[card-1]"),
    ("4111111111111111 2024", "[card-1] 2024"),
    ("2024 4111111111111111", "2024 [card-1]"),
    ("378282246310005", "[card-1]"),
    ("IBAN DE89 3704 0044 0532 0130 00 now", "IBAN [iban-1] now"),
    ("gb82west12345698765432", "[iban-1]"),
    ("NO9386011117947", "[iban-1]"),
    ("call +49 30 12345678 today", "call [phone-1] today"),
    ("+1 (212) 555-0100", "[phone-1]"),
    ("from 203.0.113.7:8080.", "from [ip-1]:8080."),
    ("2001:db8::1 and fe80::1.", "[ip-1] and [ip-2]."),
    ("at [2001:db8:0:0:0:0:0:1]:443", "at [[ip-1]]:443"),
    ("::ffff:192.0.2.1", "[ip-1]"),
    ("+49 (0)30 12345678, or +44 20 7946 0958.", "[phone-1], or [phone-2]."),
    ("ring +4930123456", "ring [phone-1]"),
    ("sk-proj-" + "a1B2-_" * 8, "[secret-1]"),
    ("key=sk-ant-api03-" + "x" * 90 + "!", "key=[secret-1]!"),
    ("ghp_" + "a" * 36, "[secret-1]"),
    ("github_pat_" + "a" * 30, "[secret-1]"),
    ("glpat-" + "a" * 20, "[secret-1]"),
    ("AKIAIOSFODNN7EXAMPLE", "[secret-1]"),
    (
        'aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
        'aws_secret_access_key = "[secret-1]"',
    ),
    ('{"SecretAccessKey":"' + "a/b+" * 10 + '"}', '{"SecretAccessKey":"[secret-1]"}'),
    ("xoxb-" + "1234567890-abc", "[secret-1]"),
    ("xapp-1-A0-" + "a" * 20, "[secret-1]"),
    ("AIza" + "a" * 35, "[secret-1]"),
    ("sk_live_" + "a" * 24, "[secret-1]"),
    ("hf_" + "a" * 34, "[secret-1]"),
    ("ap_" + "k" * 8 + "_" + "s" * 43, "[secret-1]"),
    ("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "Bearer [secret-1]"),
    ("redis://user:pa$$w0rd@host/0", "redis://[secret-1]@host/0"),
    ("redis://:pa55@host/0", "redis://[secret-1]@host/0"),
    (
        "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nok",
        "[secret-1]\nok",
    ),
    ("-----BEGIN PRIVATE KEY-----\nMII", "[secret-1]"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nx", "[secret-1]"),
]

LEFT = [
    "nobody@localhost, @ann, a@b, user@10.0.0",
    "4111 1111 1111 1112",
    "order 12345678901234567890123",
    "the year 2024 and 1 2 3 4 5 6 7 8 9 10 11 12 13",
    "DE89 3704 0044 0532 0130 01",
    "ZZ89 3704 0044 0532 0130 00",
    "DE89370400440532013000X",
    "DE89  3704 0044 0532 0130 00",
    "DE89 3704",
    "030 123456, +49, +0 123 456 789",
    "at 12:30:45, std::vector, ::, 999.1.1.1, v1.2.3, 1.2.3.4.5",
    "127.0.0.1:8080, 0.0.0.0, ::1, [::1]:80",
    "DE89 3704 0044 0532 0130 0A, a+1234567, +1 2",
    "sk-short, AKIA, eyJ.eyJ, ghp_x, task-" + "a" * 30,
    "-----BEGIN PUBLIC KEY-----, -----END PRIVATE KEY-----",
    "https://example.com/a:b@c",
    "[email] [email-] [email-1234567] [other-1]",
    "1:2:3:4:5:6:7:8:9" + ":0" * 20,
]


@pytest.mark.parametrize(("text", "redacted"), FOUND)
def test_what_is_personal_or_secret_is_taken_out_and_comes_back(text: str, redacted: str) -> None:
    """It only, and whole."""
    result = REDACTOR.redact(text)
    assert result.text == redacted
    assert result.restore(result.text) == text


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_like_it_is_left(text: str) -> None:
    """Check digits, lengths and forms that do not fit."""
    result = REDACTOR.redact(text)
    assert (result.text, result.found) == (text, {})


def test_the_same_value_has_the_same_placeholder() -> None:
    """In all texts of a session; others get others, and the kinds are counted."""
    first = REDACTOR.redact("a@x.org, b@x.org, a@x.org, 192.0.2.1")
    assert first.text == "[email-1], [email-2], [email-1], [ip-1]"
    assert first.found == {"email": 3, "ip": 1}
    second = REDACTOR.redact("c@x.org or b@x.org", first.placeholders)
    assert second.text == "[email-3] or [email-2]"


def test_a_placeholder_that_somebody_wrote_is_taken_out_too() -> None:
    """It stands for itself: nobody gets at a value by writing what stands for it."""
    placeholders = Placeholders()
    REDACTOR.redact("ann@example.com", placeholders)
    result = REDACTOR.redact("say [email-1]", placeholders)
    assert result.text == "say [literal-1]"
    assert result.found == {}
    assert result.restore(result.text) == "say [email-1]"


def test_of_overlapping_finds_the_longest_first_one_counts() -> None:
    """The password in a URL is not left for being part of something like an address."""
    assert (
        REDACTOR.redact("https://u:p@mail.example.org/").text
        == "https://[secret-1]@mail.example.org/"
    )
    text = "-----BEGIN PRIVATE KEY-----\nann@example.com\n-----END PRIVATE KEY-----"
    assert REDACTOR.redact(text).text == "[secret-1]"


def test_only_the_kinds_that_are_wanted_are_found() -> None:
    """The others stay."""
    redactor = Redactor(("ip",))
    assert redactor.redact("ann@example.com 192.0.2.1").text == "ann@example.com [ip-1]"


def test_values_are_redacted_and_restored_in_all_their_depth() -> None:
    """Arguments and results of tools: texts, keys included; numbers stay numbers."""
    placeholders = Placeholders()
    value = {"to": ["ann@example.com", 7], "ann@example.com": {"x": None}, "t": ("192.0.2.1",)}
    redacted = REDACTOR.redact_value(value, placeholders)
    assert redacted == {"to": ["[email-1]", 7], "[email-1]": {"x": None}, "t": ["[ip-1]"]}
    restored = placeholders.restore_value(redacted)
    assert restored == {**value, "t": ["192.0.2.1"]}


def test_a_value_that_is_nested_too_deep_is_refused() -> None:
    """Before the interpreter's own limit is met."""
    value: Any = "x"
    for _ in range(100):
        value = [value]
    assert REDACTOR.redact_value(value, Placeholders()) == value
    with pytest.raises(TooLarge, match="deeper than 100"):
        REDACTOR.redact_value([value], Placeholders())


@given(st.text(alphabet=st.sampled_from("a1@.:- +[]e-mail0")))
def test_any_text_comes_back_as_it_was(text: str) -> None:
    """Whatever was found in it; and what was redacted has nothing more to be found."""
    result = REDACTOR.redact(text)
    assert result.restore(result.text) == text


def test_secrets_that_are_known_are_found_whatever_they_look_like() -> None:
    """The longest first; what is too short to tell anything is left."""
    redactor = Redactor((), known=("correct horse", "correct horse battery", "short", "a.c[d]ef"))
    result = redactor.redact("correct horse battery, correct horse, short, a.c[d]ef, abc[d]ef")
    assert result.text == "[secret-1], [secret-2], short, [secret-3], abc[d]ef"
