"""`Prefer` and `Accept`: how a caller wants to be answered."""

from __future__ import annotations

import pytest

from protocol.preferences import Preferences, prefer, wants_events


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Preferences()),
        ([""], Preferences()),
        (["respond-async"], Preferences(respond_async=True)),
        (["wait=10"], Preferences(wait_s=10)),
        (["Wait = 10"], Preferences(wait_s=10)),
        (['wait="7"'], Preferences(wait_s=7)),
        (["respond-async, wait=5"], Preferences(respond_async=True, wait_s=5)),
        (["respond-async", "wait=5"], Preferences(respond_async=True, wait_s=5)),
        (['foo="a, wait=3"; x=y, wait=4'], Preferences(wait_s=4)),
        (['return=minimal; a="b,c", respond-async;q=1'], Preferences(respond_async=True)),
        (["wait=3, wait=9"], Preferences(wait_s=3)),
        ([", ,wait=3"], Preferences(wait_s=3)),
        (['a="\\", wait=1", wait=2'], Preferences(wait_s=2)),
    ],
)
def test_preferences_are_read_as_rfc_7240_says(headers: list[str], expected: Preferences) -> None:
    """Several headers, quoted values and parameters; the first of two alike counts."""
    assert prefer(headers) == expected


@pytest.mark.parametrize("value", ["wait=-1", "wait=1.5", "wait=x", "wait", "wait=9999999999999"])
def test_a_wait_that_is_no_number_of_seconds_is_passed_over(value: str) -> None:
    """A preference that is not understood is as if it were not there."""
    assert prefer([value]) == Preferences()


def test_only_the_beginning_of_a_long_header_is_read() -> None:
    """Reading a hostile header costs no more than reading a short one."""
    assert prefer(['a;"b,' * 200_000 + "wait=1"]).wait_s is None


@pytest.mark.parametrize(
    ("preferences", "patience_s", "headers"),
    [
        (Preferences(), None, ()),
        (Preferences(respond_async=True), 0.0, (("Preference-Applied", "respond-async"),)),
        (Preferences(wait_s=5), 5, (("Preference-Applied", "wait=5"),)),
        (
            Preferences(respond_async=True, wait_s=5),
            5,
            (("Preference-Applied", "respond-async, wait=5"),),
        ),
    ],
)
def test_patience_follows_from_the_preferences(
    preferences: Preferences, patience_s: float | None, headers: tuple[tuple[str, str], ...]
) -> None:
    """A wait goes before respond-async, and what was heeded is said."""
    assert preferences.patience_s == patience_s
    assert preferences.headers == headers


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream, */*", True),
        ("text/event-stream, application/json;q=0.5", True),
        ("text/event-stream, application/json", True),
        ("application/json, text/event-stream", False),
        ("application/json;q=0.1, text/event-stream;q=wrong", False),
        ("text/event-stream;q=0", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
    ],
)
def test_events_are_for_those_who_ask_for_them(accept: str, expected: bool) -> None:
    """An event stream is sent to who names it and does not like JSON better."""
    assert wants_events(accept) is expected
