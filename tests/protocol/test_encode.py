"""What the engine knows becomes the JSON of the protocol."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pool import events
from pool.turn import Message, PendingCall, SessionInfo, Turn, TurnError, TurnRequest, Usage
from protocol import bodies, encode
from protocol.problems import FieldError, problem

AT = 1_700_000_000.25
ISO = "2023-11-14T22:13:20.250000Z"
PLACE: dict[str, Any] = {"epoch": 7, "seq": 3, "turn_id": "t1", "session_id": "s1"}
HEAD = {"id": "7-3", "turn_id": "t1", "session_id": "s1"}


def a_turn(**more: Any) -> Turn:
    """A queued turn, with some fields otherwise."""
    fields: dict[str, Any] = {
        "id": "t1",
        "tenant": "secret-tenant",
        "user": "secret-user",
        "session_id": "s1",
        "agent": "a",
        "request": TurnRequest(input="hi", metadata={"k": [1]}),
        "created_at": AT,
    }
    return Turn(**(fields | more))


PLAIN = {
    "id": "t1",
    "session_id": "s1",
    "agent": "a",
    "state": "queued",
    "input": "hi",
    "output": "",
    "usage": {
        "input_tokens": 0,
        "output_tokens": 0,
        "requests": 0,
        "tool_calls": 0,
        "cost_usd": None,
        "models": [],
    },
    "pending": [],
    "attempt": 0,
    "queued_s": 0.0,
    "run_s": 0.0,
    "created_at": ISO,
    "metadata": {"k": [1]},
}


def test_a_turn_has_exactly_the_fields_of_the_protocol() -> None:
    """What is absent is left out, and neither tenant nor user is told."""
    assert msgspec.json.decode(encode.turn(a_turn())) == PLAIN
    without = {name: value for name, value in PLAIN.items() if name != "input"}
    assert msgspec.json.decode(encode.turn(a_turn(), with_input=False)) == without


def test_a_turn_that_ended_says_how() -> None:
    """Error, end, a rollback and the reason of a stop are there when there is one."""
    ended = a_turn(
        state="failed",
        error=TurnError("agent_failed", "no", retryable=True),
        finished_at=AT,
        forgotten=True,
        stop_reason="limit",
        marks=("degraded",),
        usage=Usage(1, 2, 3, 4, 0.5, ("m",)),
    )
    found = msgspec.json.decode(encode.turn(ended))
    assert found["error"] == {"code": "agent_failed", "detail": "no", "retryable": True}
    assert found["finished_at"] == ISO
    assert found["forgotten"] is True
    assert found["stop_reason"] == "limit"
    assert found["marks"] == ["degraded"]
    assert found["usage"]["cost_usd"] == 0.5


def test_pending_calls_show_what_is_to_be_decided() -> None:
    """The human sees the exact arguments and until when to decide."""
    call = PendingCall("c1", "rm", {"path": "/"}, "dangerous", AT)
    found = msgspec.json.decode(encode.turn(a_turn(pending=(call,))))
    assert found["pending"] == [
        {
            "call_id": "c1",
            "name": "rm",
            "arguments": {"path": "/"},
            "risk": "dangerous",
            "expires_at": ISO,
        }
    ]


EVENTS: list[tuple[events.Event, dict[str, Any]]] = [
    (events.TurnQueued(position=2, at=AT, **PLACE), {"at": ISO, "position": 2}),
    (events.TurnStarted(attempt=2, at=AT, **PLACE), {"at": ISO, "attempt": 2}),
    (events.TextDelta('wörld "\n\x00', **PLACE), {"text": 'wörld "\n\x00'}),
    (events.ReasoningDelta("hm", **PLACE), {"text": "hm"}),
    (
        events.ToolCalled(call_id="c", name="n", arguments={"a": 1}, at=AT, **PLACE),
        {"at": ISO, "call_id": "c", "name": "n", "arguments": {"a": 1}},
    ),
    (
        events.ToolReturned(call_id="c", result=[1], is_error=True, at=AT, **PLACE),
        {"at": ISO, "call_id": "c", "result": [1], "is_error": True},
    ),
    (
        events.ApprovalRequested(
            call_id="c", name="n", arguments={}, risk="write", expires_at=AT, at=AT, **PLACE
        ),
        {
            "at": ISO,
            "call_id": "c",
            "name": "n",
            "arguments": {},
            "risk": "write",
            "expires_at": ISO,
        },
    ),
    (
        events.ApprovalDecided(call_id="c", decision="deny", by="u", at=AT, **PLACE),
        {"at": ISO, "call_id": "c", "decision": "deny", "by": "u"},
    ),
    (
        events.UsageReported(usage=Usage(), at=AT, **PLACE),
        {"at": ISO, "usage": PLAIN["usage"]},
    ),
    (
        events.ModelDecided(step="fell_back", model="m", reason="r", at=AT, **PLACE),
        {"at": ISO, "step": "fell_back", "model": "m", "reason": "r"},
    ),
    (
        events.HistoryLost(lost_from="1-2", lost_to="7-3", at=AT, **PLACE),
        {"at": ISO, "from": "1-2", "to": "7-3"},
    ),
    *(
        (
            kind(turn=a_turn(state=state), at=AT, **PLACE),
            {
                "at": ISO,
                "turn": {k: v for k, v in PLAIN.items() if k != "input"} | {"state": state},
            },
        )
        for state, kind in events.ENDINGS.items()
    ),
]


@pytest.mark.parametrize(("event", "more"), EVENTS, ids=lambda value: getattr(value, "type", ""))
def test_every_event_has_its_place_and_its_fields(
    event: events.Event, more: dict[str, Any]
) -> None:
    """Type, place, time (deltas have none) and what the table of the protocol names."""
    assert msgspec.json.decode(encode.event(event)) == {"type": event.type, **HEAD, **more}


@pytest.mark.parametrize("event", [event for event, _ in EVENTS], ids=lambda event: event.type)
def test_every_event_is_what_the_document_says(event: events.Event) -> None:
    """The bytes fit the struct that the OpenAPI document is made from."""
    decoded = msgspec.json.decode(encode.event(event), type=bodies.AnyEvent, strict=True)
    assert decoded.id == event.id


def test_every_event_of_the_engine_is_known() -> None:
    """No kind of event has been forgotten here."""
    known = {event.type for event, _ in EVENTS}
    leaves = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type)
        and issubclass(kind, events.Event)
        and kind not in (events.Event, events.TurnEnded)
    }
    assert {kind.type for kind in leaves} == known


def test_an_sse_block_has_id_type_and_data() -> None:
    """One block: three lines and an empty one, whatever the text is."""
    block = encode.sse(events.TextDelta("a\nb\r\n\n", **PLACE))
    assert block.startswith(b"id: 7-3\nevent: text.delta\ndata: {")
    assert block.endswith(b"}\n\n")
    assert block.count(b"\n") == 4
    assert b"\r" not in block


def test_sessions_and_messages_have_the_fields_of_the_protocol() -> None:
    """A session has its id under both names."""
    info = SessionInfo(id="s1", agent="a", ttl_s=5, created_at=AT, updated_at=AT, cursor="7-3")
    assert msgspec.json.decode(encode.session(info)) == {
        "id": "s1",
        "session_id": "s1",
        "agent": "a",
        "metadata": {},
        "ttl_s": 5,
        "created_at": ISO,
        "updated_at": ISO,
        "turns": 0,
        "cursor": "7-3",
    }
    assert msgspec.json.decode(encode.message(Message("user", "hi", "t1", AT))) == {
        "role": "user",
        "content": "hi",
        "turn_id": "t1",
        "created_at": ISO,
    }


def test_a_problem_leaves_out_what_it_has_not() -> None:
    """Optional members are absent, not null."""
    plain = msgspec.json.decode(encode.problem(problem("not_found", "no", request_id="r")))
    assert plain == {
        "type": "urn:actorpool:problem:not_found",
        "title": "There is no such thing",
        "status": 404,
        "detail": "no",
        "code": "not_found",
        "retryable": False,
        "request_id": "r",
    }
    full = problem(
        "overloaded",
        "no",
        request_id="r",
        turn_id="t",
        retry_after_s=1.5,
        errors=[FieldError("f", "m")],
    )
    found = msgspec.json.decode(encode.problem(full))
    assert (found["turn_id"], found["retry_after_s"]) == ("t", 1.5)
    assert found["errors"] == [{"field": "f", "message": "m"}]
