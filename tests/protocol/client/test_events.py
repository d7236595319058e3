from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pool import events as engine
from pool.turn import Turn, TurnRequest, Usage
from protocol import encode
from protocol.client import events
from protocol.client.errors import ProtocolViolation

TURN = Turn(
    id="t",
    tenant="x",
    user="y",
    session_id="s",
    agent="a",
    request=TurnRequest(input="hi"),
    output="yes",
)
PLACE: dict[str, Any] = {"epoch": 3, "seq": 7, "turn_id": "t", "session_id": "s", "at": 1.0}

ALL = [
    engine.TurnQueued(position=2, **PLACE),
    engine.TurnStarted(attempt=2, **PLACE),
    engine.TextDelta("hä", **PLACE),
    engine.ReasoningDelta("hm", **PLACE),
    engine.ToolCalled("c", "n", {"a": [1]}, **PLACE),
    engine.ToolReturned("c", {"b": None}, is_error=True, **PLACE),
    engine.ApprovalRequested("c", "n", {}, "write", 5.0, **PLACE),
    engine.ApprovalDecided("c", "approve", "ann", **PLACE),
    engine.UsageReported(Usage(input_tokens=5), **PLACE),
    engine.ModelDecided("routed", "m", "long input", **PLACE),
    engine.HistoryLost("1-1", "2-2", **PLACE),
    *[kind(TURN, **PLACE) for kind in engine.ENDINGS.values()],
]


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.type)
def test_every_event_of_the_engine_is_understood(event):
    """What the server writes, the client reads: the same kind, place and fields."""
    read = events.decode(encode.event(event))
    assert type(read).__name__ == type(event).__name__
    assert (read.id, read.turn_id, read.session_id) == ("3-7", "t", "s")
    assert read.terminal is event.terminal
    for name in {"text", "position", "attempt", "call_id", "name", "arguments", "result"}:
        assert getattr(read, name, None) == getattr(event, name, None)


def test_every_kind_of_event_is_tested_here():
    """When the engine gets another event, this test asks for it."""
    kinds = {kind.type for kind in engine.Event.__subclasses__() if hasattr(kind, "type")}
    assert {event.type for event in ALL} >= kinds - {"event"}


def test_a_terminal_event_carries_its_turn():
    """The turn at the end has its output, and no input."""
    read = events.decode(encode.event(engine.TurnCompleted(TURN, **PLACE)))
    assert isinstance(read, events.TurnCompleted)
    assert read.turn.output == "yes"
    assert read.turn.input is None


def test_an_event_of_the_future_is_passed_on():
    """A kind that this version does not know comes as it is, with its place."""
    data = msgspec.json.encode({"type": "turn.sung", "id": "1-2", "turn_id": "t", "song": "la"})
    read = events.decode(data)
    assert isinstance(read, events.UnknownEvent)
    assert read.id == "1-2"
    assert read.fields["song"] == "la"


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"null", b'{"type": "text.delta"}', b'{"type": "new"}', b'{"id": "1-1"}'],
)
def test_what_is_no_event_is_a_violation(data):
    """Anything else is said to be one, and not raised as some parser's error."""
    with pytest.raises(ProtocolViolation):
        events.decode(data)
