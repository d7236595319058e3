from __future__ import annotations

import json

import pytest

from pool.turn import TurnRequest
from protocol.problems import InvalidFields
from protocol.ws import commands
from protocol.ws.commands import BadCommand, BadFrame, decode


def frame(**fields):
    """A command as a text frame."""
    return json.dumps(fields)


def test_a_hello_names_sessions_and_cursors():
    """A hello may name sessions with the cursor they go on from, or null for from now on."""
    hello = decode(frame(type="hello", ref="r", sessions={"s1": "1-7", "s2": None}))
    assert hello == commands.Hello(ref="r", sessions={"s1": "1-7", "s2": None})


def test_a_turn_is_a_turn_request_with_a_session():
    """A turn command carries every field of a turn request, and hands on exactly those."""
    command = decode(
        frame(
            type="turn",
            ref=1,
            session_id="s1",
            idempotency_key="k",
            input="hi",
            if_busy="interrupt",
            metadata={"a": [1]},
        )
    )
    assert isinstance(command, commands.AskTurn)
    request = command.request()
    assert type(request) is TurnRequest
    assert request == TurnRequest(input="hi", if_busy="interrupt", metadata={"a": [1]})
    assert request.digest("a") == TurnRequest(
        input="hi", if_busy="interrupt", metadata={"a": [1]}
    ).digest("a")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '"hello"',
        "{",
        "{}",
        '{"type":1}',
        '{"type":null}',
        '{"type":"ping"} x',
        '{"type":"turn","session_id":"s","input":NaN}',
        '{"type":"turn","metadata":' + "[" * 200_000,
        '{"type":"turn","metadata":' + "[" * 200_000 + "]" * 200_000 + "}",
        "[" * 200_000,
    ],
)
def test_what_is_no_object_with_a_type_is_a_bad_frame(text):
    """Text that is not a JSON object with a string `type` is no command."""
    with pytest.raises(BadFrame):
        decode(text)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "turn", "session_id": "s"}, ""),
        ({"type": "turn", "session_id": "../s", "input": "x"}, "session_id"),
        ({"type": "turn", "session_id": "s" * 65, "input": "x"}, "session_id"),
        ({"type": "turn", "session_id": "s", "input": ""}, "input"),
        ({"type": "turn", "session_id": "s", "input": "x", "deadline_s": 0}, "deadline_s"),
        ({"type": "turn", "session_id": "s", "input": "x", "idempotency_key": ""}, ""),
        ({"type": "turn", "session_id": "s", "input": "x", "unknown": 1}, "unknown"),
        ({"type": "approve", "turn_id": "t", "call_id": "c", "decision": "maybe"}, "decision"),
        ({"type": "ack", "session_id": "s"}, ""),
        ({"type": "hello", "sessions": {"a b": None}}, "sessions"),
        ({"type": "ping", "ref": 1.5}, "ref"),
        ({"type": "nonsense"}, "type"),
    ],
)
def test_a_command_with_a_mistake_is_refused_by_field(fields, field):
    """A wrong, missing or unknown field is an invalid request that names it, never a bad frame."""
    with pytest.raises(BadCommand) as caught:
        decode(frame(**fields))
    assert caught.value.problem.code == "invalid_request"
    assert caught.value.kind == fields["type"]
    if field:
        assert caught.value.problem.field == field


@pytest.mark.parametrize("kind", ["hunter2", "hunter2 - at `$.ref", "hunter2" * 10_000])
def test_a_refusal_does_not_repeat_an_unknown_type(kind):
    """What was sent may be secret or huge: it does not come back."""
    with pytest.raises(BadCommand) as caught:
        decode(frame(type=kind))
    problem = caught.value.problem
    assert isinstance(problem, InvalidFields)
    assert problem.field == "type"
    assert "hunter2" not in f"{problem.detail} {problem.errors}"


@pytest.mark.parametrize(
    ("ref", "kept"),
    [("a", "a"), (7, 7), (None, None), ([1], None), ("x" * 129, None), (True, None)],
)
def test_a_refusal_repeats_a_ref_that_can_be_repeated(ref, kept):
    """The refusal of a command repeats its `ref` if that is a string or a number, and short."""
    with pytest.raises(BadCommand) as caught:
        decode(frame(type="nonsense", ref=ref))
    assert caught.value.ref == kept


def test_a_hundred_thousand_digits_are_refused():
    """A number that no field can hold is an invalid request."""
    with pytest.raises(BadCommand):
        decode('{"type":"turn","session_id":"s","input":"x","deadline_s":' + "9" * 100_000 + "}")


def test_nesting_has_a_limit_below_the_parsers():
    """Metadata may be nested, but not so deep that writing it again would fail."""
    deep = "[" * 70 + "]" * 70
    with pytest.raises(BadCommand, match="deeper"):
        decode('{"type":"turn","session_id":"s","input":"x","metadata":{"a":' + deep + "}}")
    wide = json.dumps([[] for _ in range(500)])
    decode('{"type":"turn","session_id":"s","input":"x","metadata":{"a":' + wide + "}}")
