from __future__ import annotations

import json

import pytest

from pool.errors import NotFound
from pool.events import TextDelta
from protocol.problems import problem_of
from protocol.ws import frames


def payload(frame):
    """The payload of an unmasked frame, its lengths checked."""
    size, start = frame[1], 2
    assert size < 128
    if size == 126:
        size, start = int.from_bytes(frame[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(frame[2:10], "big"), 10
    assert len(frame) == start + size
    return frame[start:]


@pytest.mark.parametrize("size", [0, 1, 100, 125, 126, 200, 65_000, 65_535, 65_536, 200_000])
def test_a_frame_has_the_shortest_length_field(size):
    """Every length is written as RFC 6455 says, around both of its steps."""
    text = "x" * size
    body = payload(frames.event(TextDelta(text, epoch=1, seq=2, turn_id="t", session_id="s")))
    said = json.loads(body)
    assert said["type"] == "event"
    assert said["event"]["text"] == text
    assert said["event"]["id"] == "1-2"


def test_a_close_frame_holds_its_code_and_a_reason_cut_to_fit():
    """The reason is cut at 123 bytes, between characters."""
    frame = frames.close(4400, "ä" * 100)
    body = payload(frame)
    assert frame[0] == 0x88
    assert body[:2] == (4400).to_bytes(2, "big")
    assert body[2:].decode() == "ä" * 61


def test_a_close_without_a_code_is_empty():
    """Code 0 stands for no code at all."""
    assert frames.close(0, "ignored") == b"\x88\x00"


def test_ping_and_pong_are_control_frames():
    """A pong repeats the payload of its ping."""
    assert frames.ping() == b"\x89\x00"
    assert frames.pong(b"abc") == b"\x8a\x03abc"


@pytest.mark.parametrize("ref", ["a", 'quote"', 7])
def test_answers_repeat_the_ref(ref):
    """Whatever the ref is, it comes back as it was."""
    for frame in (
        frames.accepted(ref),
        frames.subscribed(ref, "1-2"),
        frames.command_pong(ref),
        frames.error(ref, problem_of(NotFound("no"), request_id="r")),
        frames.welcome(ref, connection_id="c", heartbeat_s=30.0, max_frame_bytes=1, window=2),
    ):
        assert json.loads(payload(frame))["ref"] == ref


def test_answers_without_a_ref_have_none():
    """A command without a ref is answered without one."""
    assert json.loads(payload(frames.accepted(None))) == {"type": "accepted"}


def test_an_error_names_its_session_if_it_is_about_one():
    """`session_id` is there when a session cannot be read."""
    problem = problem_of(NotFound("there is no session s1"), request_id="r")
    said = json.loads(payload(frames.error(None, problem, "s1")))
    assert said["session_id"] == "s1"
    assert said["error"]["code"] == "not_found"
    assert "session_id" not in json.loads(payload(frames.error(None, problem)))


def test_welcome_says_what_a_client_must_know():
    """The heartbeat, the largest frame and the window are in the welcome."""
    frame = frames.welcome(None, connection_id="c", heartbeat_s=30, max_frame_bytes=9, window=4)
    assert json.loads(payload(frame)) == {
        "type": "welcome",
        "connection_id": "c",
        "heartbeat_s": 30,
        "max_frame_bytes": 9,
        "window": 4,
    }


def test_goodbye_says_when_to_come_back():
    """A goodbye has its reason and a time in seconds."""
    said = json.loads(payload(frames.goodbye("drain", 1.23456)))
    assert said == {"type": "goodbye", "reason": "drain", "reconnect_after_s": 1.235}
