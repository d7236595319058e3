"""Server-sent events without I/O: where to go on, and when to write."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from pool.errors import InvalidRequest
from pool.events import Cursor
from protocol import sse


def test_the_header_goes_before_the_query() -> None:
    """`Last-Event-ID` is newer than the URL that an EventSource was made with."""
    headers = CIMultiDict({"last-event-id": "2-5"})
    assert sse.cursor(headers, "1-1") == Cursor(2, 5)
    assert sse.cursor(CIMultiDict(), "1-1") == Cursor(1, 1)
    assert sse.cursor(CIMultiDict(), None) is None


@pytest.mark.parametrize("text", ["", "1", "-", "1-", "a-b", "1-2-3", "1-٣", "1" * 20 + "-1"])
def test_a_malformed_cursor_is_refused_by_its_name(text: str) -> None:
    """The error names the header or the parameter that was wrong."""
    with pytest.raises(InvalidRequest) as caught:
        sse.cursor(CIMultiDict({"Last-Event-ID": text}), None)
    assert caught.value.field == "Last-Event-ID"
    with pytest.raises(InvalidRequest) as caught:
        sse.cursor(CIMultiDict(), text)
    assert caught.value.field == "after"


def test_the_first_batch_goes_at_once_and_the_next_ones_apart() -> None:
    """Nobody waits for the first word; under load words are collected."""
    pace = sse.Pace(flush_s=0.005, heartbeat_s=15)
    assert pace.pause(100.0) == 0
    pace.written_at = 100.0
    assert pace.pause(100.001) == pytest.approx(0.004)
    assert pace.pause(100.005) == pytest.approx(0)
    assert pace.pause(107.0) == 0


def test_a_comment_is_due_when_nothing_else_was_written() -> None:
    """At once on a stream that has nothing to say yet, then every `heartbeat_s`."""
    pace = sse.Pace(flush_s=0.005, heartbeat_s=15)
    assert pace.comment_at() < 0
    pace.written_at = 100.0
    assert pace.comment_at() == 115.0
