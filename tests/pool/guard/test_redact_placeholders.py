"""Placeholders come back as values, also from a text that comes in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.guard.redact_placeholders import Placeholders, RestoringStream


def some(*values: str) -> Placeholders:
    """Placeholders of e-mail addresses, numbered from 1."""
    placeholders = Placeholders()
    for value in values:
        placeholders.of("email", value)
    return placeholders


def restored(pieces: list[str], placeholders: Placeholders) -> str:
    """What a reader sees of a text in pieces."""
    stream = RestoringStream(placeholders)
    return "".join([*map(stream.feed, pieces), stream.end()])


def test_a_placeholder_split_anywhere_is_restored() -> None:
    """At each of its characters, and between all of them."""
    placeholders = some("ann@example.com")
    text = "to [email-1], now"
    for place in range(len(text)):
        assert restored([text[:place], text[place:]], placeholders) == "to ann@example.com, now"
    assert restored(list(text), placeholders) == "to ann@example.com, now"


@given(
    st.lists(
        st.sampled_from(["[", "]", "email", "-", "1", "12", " ", "[email-1]", "[secret-", "x"])
    )
)
def test_in_pieces_it_is_the_same_as_at_once(pieces: list[str]) -> None:
    """Whatever the pieces are."""
    placeholders = some(*"abcdefghijkl")
    assert restored(pieces, placeholders) == placeholders.restore("".join(pieces))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "hello"),
        ("a [", "a "),
        ("a [em", "a "),
        ("a [email-", "a "),
        ("a [email-123456", "a "),
        ("a [email-1234567", "a [email-1234567"),
        ("a [email-x", "a [email-x"),
        ("a [other-1", "a [other-1"),
        ("a [link](", "a [link]("),
        ("a [email-1]", "a ann"),
    ],
)
def test_only_what_may_become_a_placeholder_is_held_back(text: str, said: str) -> None:
    """All else is said at once, and what was held back when nothing more comes."""
    stream = RestoringStream(some("ann"))
    assert stream.feed(text) == said
    assert said + stream.end() == text.replace("[email-1]", "ann")
    assert stream.end() == ""


def test_what_is_held_back_is_short() -> None:
    """However long the text is that comes without an end."""
    stream = RestoringStream(some("ann"))
    said = "".join(stream.feed("[secret-123456") for _ in range(1_000))
    assert 14 * 1_000 - len(said) <= 16


def test_unknown_placeholders_stay() -> None:
    """The model may make some up."""
    assert some("ann").restore("[email-2] [email-1] [phone-1]") == "[email-2] ann [phone-1]"


def test_values_are_not_restored_twice() -> None:
    """What a value says is not looked through."""
    assert some("[email-2]", "b").restore("[email-1]") == "[email-2]"


def test_what_is_known_can_be_kept_and_gone_on_with() -> None:
    """The same values keep their placeholders; new ones get new ones."""
    before = some("a", "b")
    before.of("phone", "+49 30 123456")
    after = Placeholders(before.known)
    assert after.of("email", "b") == "[email-2]"
    assert after.of("email", "c") == "[email-3]"
    assert after.of("phone", "+1 212 5550100") == "[phone-2]"
    assert len(before) == 3


def test_beyond_the_most_a_value_is_taken_out_for_good() -> None:
    """Memory is bounded; what is secret stays so."""
    placeholders = Placeholders(most=1)
    assert placeholders.of("email", "a") == "[email-1]"
    assert placeholders.of("email", "b") == "[email]"
    assert placeholders.of("email", "a") == "[email-1]"
    assert placeholders.restore("[email]") == "[email]"


def test_values_are_not_shown() -> None:
    """A log that names the object does not name them."""
    assert repr(some("ann")) == "<Placeholders [1 of 10000]>"
