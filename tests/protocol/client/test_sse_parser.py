from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.client.errors import ProtocolViolation
from protocol.client.sse import SseParser

STREAM = b'id: 1-1\nevent: a\ndata: {"x": 1}\n\n:\n\n\ndata: {"y":\ndata: 2}\n\ndata:{"z": 3}\n\n'
DATA = [b'{"x": 1}', b'{"y":\n2}', b'{"z": 3}']


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_are_the_same_however_the_bytes_are_cut(cuts):
    """Wherever the network cuts the stream, the same data comes out."""
    places = sorted({0, *cuts, len(STREAM)})
    parser = SseParser()
    found = []
    for start, end in pairwise(places):
        found += parser.feed(STREAM[start:end])
    assert found == DATA


def test_an_event_that_is_not_complete_is_kept_back():
    """Data without the end of its block is not an event yet."""
    parser = SseParser()
    assert parser.feed(b"data: 1\n") == []
    assert parser.feed(b"\n") == [b"1"]


def test_a_block_without_end_is_refused(monkeypatch):
    """What is kept back is bounded."""
    monkeypatch.setattr("protocol.client.sse._MOST_BYTES", 100)
    parser = SseParser()
    parser.feed(b"data: " + b"x" * 50)
    with pytest.raises(ProtocolViolation):
        parser.feed(b"x" * 50)
