"""Listings: pages that stay right while names come and go."""

from __future__ import annotations

import pytest

from pool.errors import InvalidRequest
from pool.store.listing import Listing, place_of


def _names(listing: Listing, after: int = 0, limit: int = 1_000) -> list[str]:
    return [name for _, name in listing.after(after, limit)]


def test_names_come_in_order_from_any_number() -> None:
    """A page begins after a number and has at most its limit."""
    listing = Listing()
    for number in range(10, 15):
        listing.add(number, f"n{number}")
    assert _names(listing) == ["n10", "n11", "n12", "n13", "n14"]
    assert listing.after(11, 2) == [(12, "n12"), (13, "n13")]
    assert _names(listing, 14) == []


def test_a_dropped_name_leaves_the_others_where_they_are() -> None:
    """Its number is still a place to go on from, before and after its hole is closed."""
    listing = Listing()
    for number in range(1, 101):
        listing.add(number, str(number))
    for number in range(1, 100, 2):
        listing.drop(number)
        assert _names(listing, number, 1) == [str(number + 1)]
    assert len(listing) == 50
    for number in range(2, 80, 2):
        listing.drop(number)
    assert _names(listing) == [str(number) for number in range(80, 101, 2)]
    assert _names(listing, 41, 1) == ["80"]


def test_what_is_not_there_cannot_be_dropped() -> None:
    """A number never given, or given up already, is a `KeyError`."""
    listing = Listing()
    listing.add(5, "five")
    listing.add(6, "six")
    listing.add(7, "seven")
    listing.drop(5)
    for number in (4, 5, 8):
        with pytest.raises(KeyError):
            listing.drop(number)


def test_the_beginning_is_place_zero() -> None:
    """No cursor is the beginning; a cursor is the number that it shows."""
    assert place_of(None) == 0
    assert place_of("17") == 17


@pytest.mark.parametrize("cursor", ["", "-1", "1e3", "٣", "1" * 19, "a"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    """The error names the field that is wrong."""
    with pytest.raises(InvalidRequest) as caught:
        place_of(cursor)
    assert caught.value.field == "cursor"
