"""Cutting the bytes of an event stream."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.agents.sse import EventData
from pool.errors import ModelUnusable

STREAM = (
    b"data: one\n\n: a comment\n\nevent: x\ndata: two\nid: 3\n\ndata:three\n\ndata: a\ndata: b\n\n"
)
DATA = [b"one", b"", b"two", b"three", b"a\nb"]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in pieces that end at these places."""
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


@given(
    places=st.lists(st.integers(0, 1000), max_size=20),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_pieces_and_line_ends_do_not_matter(places, end):
    """However the stream is cut and whatever its line ends, its events are the same."""
    events = EventData()
    stream = STREAM.replace(b"\n", end)
    # a lone CR at the very end may still be half of a CRLF: the next event shows that it was not
    pieces = [*cut(stream, places), b"data: last" + end + end]

    found = [data for piece in pieces for data in events.feed(piece)]

    assert found[: len(DATA)] == DATA


def test_event_that_is_not_complete_is_kept():
    """Nothing is given of an event before its end has come."""
    events = EventData()

    assert events.feed(b"data: he") == []
    assert events.feed(b"llo") == []
    assert events.feed(b"\n") == []
    assert events.feed(b"\ndata: x") == [b"hello"]


@pytest.mark.parametrize("piece", [b"x" * 10, b"data: x\n", b"x\r\n"])
def test_event_without_end_is_refused(piece):
    """A stream that never ends its event is given up at the limit, whatever its lines are."""
    events = EventData(max_bytes=100)

    def feed_for_ever() -> None:
        for _ in range(60):
            events.feed(piece)

    with pytest.raises(ModelUnusable, match="more than 100 bytes"):
        feed_for_ever()


def test_many_events_may_come_at_once():
    """The limit is on one event, not on what a read delivers."""
    events = EventData(max_bytes=100)

    assert len(events.feed(b"data: hello\n\n" * 50)) == 50
