"""The durable form of turns, events and transcripts: everything comes back as it went in."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import Internal, InvalidRequest
from pool.events import (
    ENDINGS,
    ApprovalDecided,
    ApprovalRequested,
    Event,
    HistoryLost,
    ModelDecided,
    ModelStep,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolReturned,
    TurnCompleted,
    TurnEnded,
    TurnQueued,
    TurnStarted,
    UsageReported,
)
from pool.store.codec import (
    decode_events,
    decode_plain,
    decode_said,
    decode_turn,
    encode_events,
    encode_plain,
    encode_said,
    encode_turn,
    ended_in,
)
from pool.store.codec_events import FIELDS, KINDS
from pool.store.codec_turns import IF_BUSY, ON_DISCONNECT, PRIORITIES, STATES
from pool.turn import (
    DecidedCall,
    IfBusy,
    Message,
    OnDisconnect,
    PendingCall,
    Priority,
    Risk,
    State,
    Turn,
    TurnError,
    TurnRequest,
    Usage,
    Webhook,
)

# everything that UTF-8 holds: no lone surrogates
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
times = st.floats(min_value=0, max_value=1e11)
counts = st.integers(0, 2**63 - 1)
json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | texts
    # what is a whole number in JSON is one when it is read
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: number % 1 != 0),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(texts, each, max_size=3),
    max_leaves=6,
)
plain = st.dictionaries(texts, json, max_size=3)
risks = st.sampled_from(get_args(Risk))
decisions = st.sampled_from(["approve", "deny"])
usages = st.builds(
    Usage,
    counts,
    counts,
    counts,
    counts,
    st.none() | times,
    st.lists(texts, max_size=2).map(tuple),
)
pending = st.builds(
    PendingCall, texts, texts, plain, risks, times, counts, st.lists(texts).map(tuple)
)
request_fields: dict[str, st.SearchStrategy[Any]] = {
    "complexity": st.sampled_from([None, "low", "high"]),
    "input": texts,
    "agent": st.sampled_from([None, "a", "b"]),
    "deadline_s": st.integers(1, 86_400) | st.floats(0.001, 86_400),
    "priority": st.sampled_from(PRIORITIES),
    "if_busy": st.sampled_from(IF_BUSY),
    "on_disconnect": st.sampled_from(ON_DISCONNECT),
    "webhook": st.none() | st.builds(Webhook, texts),
    "metadata": plain,
}
turn_fields: dict[str, st.SearchStrategy[Any]] = {
    "id": ids,
    "tenant": ids,
    "user": texts,
    "session_id": ids,
    "agent": st.sampled_from(["a", "b"]),
    "request": st.builds(TurnRequest, **request_fields),
    "state": st.sampled_from(STATES),
    "output": texts,
    "error": st.none() | st.builds(TurnError, texts, texts, st.booleans()),
    "usage": usages | st.just(Usage()),
    "pending": st.lists(pending, max_size=2).map(tuple),
    "decided": st.lists(st.builds(DecidedCall, pending, decisions, texts, texts), max_size=2).map(
        tuple
    ),
    "attempt": st.integers(0, 9),
    "queued_s": times,
    "run_s": times,
    "created_at": times,
    "finished_at": st.none() | times,
    "forgotten": st.booleans(),
    "stop_reason": st.none() | texts,
    "marks": st.sampled_from([(), ("cached",), ("cached", "degraded")]),
    "roles": st.lists(texts, max_size=2).map(tuple),
    "resumes": st.booleans(),
    "kept_usage": st.none() | usages,
    "at": texts,
}
turns = st.builds(Turn, **turn_fields)
TURNS = {
    turn_id: Turn(
        id=turn_id,
        tenant="t",
        user="u",
        session_id="s",
        agent="a",
        request=TurnRequest(input="hello"),
    )
    for turn_id in ("x", "y")
}
happened = st.one_of(
    st.builds(TurnQueued, position=counts, at=times),
    st.builds(TurnStarted, attempt=counts, at=times),
    st.builds(TextDelta, text=texts),
    st.builds(TextDelta, text=texts, at=st.sampled_from([0.0, 2.5])),
    st.builds(ReasoningDelta, text=texts),
    st.builds(ToolCalled, call_id=texts, name=texts, arguments=plain, at=times),
    st.builds(ToolReturned, call_id=texts, result=json, is_error=st.booleans(), at=times),
    st.builds(
        ApprovalRequested,
        call_id=texts,
        name=texts,
        arguments=plain,
        risk=risks,
        expires_at=times,
        at=times,
    ),
    st.builds(ApprovalDecided, call_id=texts, decision=decisions, by=texts, at=times),
    st.builds(UsageReported, usage=usages, at=times),
    st.builds(ModelDecided, step=st.sampled_from(get_args(ModelStep)), model=texts, at=times),
    *(st.builds(kind, turn=st.just(TURNS["x"]), at=times) for kind in ENDINGS.values()),
)


def _batch(events: list[Event], whose: str = "x", first: int = 1) -> list[Event]:
    for seq, event in enumerate(events, first):
        event.epoch, event.seq, event.session_id = 7, seq, "s"
        event.turn_id = event.turn.id if isinstance(event, TurnEnded) else whose
    return events


def _again(events: list[Event]) -> list[Event]:
    last = events[-1].seq if events else 0
    return decode_events(encode_events(events), epoch=7, last=last, session_id="s", turns=TURNS)


def _turn(**fields: Any) -> Turn:
    return msgspec.structs.replace(TURNS["x"], **fields)


@given(turns)
def test_a_turn_comes_back_whole(turn: Turn) -> None:
    """Every field of a turn and of its request survives, whatever it holds."""
    again = decode_turn(encode_turn(turn))
    assert again == turn
    assert type(again.request.deadline_s) is type(turn.request.deadline_s)


@given(st.lists(happened, max_size=8), st.data())
def test_events_come_back_as_they_happened(events: list[Event], data: st.DataObject) -> None:
    """Kind, place, turn, time and fields of each event survive, also of turns that take turns."""
    _batch(events, first=data.draw(st.integers(1, 2**60)))
    for event in events:
        if not isinstance(event, TurnEnded):
            event.turn_id = data.draw(st.sampled_from(["x", "y"]))
    assert _again(events) == events


@given(st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), texts, ids, times)))
def test_what_was_said_comes_back(messages: list[Message]) -> None:
    """An entry of the transcript keeps who said what and when."""
    messages = [msgspec.structs.replace(each, turn_id="x") for each in messages]
    assert decode_said(encode_said(messages)) == tuple(messages)


def test_a_batch_tells_who_ended_in_it() -> None:
    """The turns whose records are needed are known before anything is decoded."""
    events = _batch([TextDelta(text="a"), TurnCompleted(turn=TURNS["y"]), TextDelta(text="b")])
    assert list(ended_in(encode_events(events))) == ["y"]
    assert list(ended_in(encode_events(_batch([TextDelta(text="a")])))) == []


def test_a_terminal_event_has_the_turn_that_is_given() -> None:
    """The turn's record is kept once: the event is made from it."""
    event = _again(_batch([TurnCompleted(turn=TURNS["x"], at=3.0)]))[0]
    assert isinstance(event, TurnCompleted)
    assert event.turn is TURNS["x"]


def test_deltas_take_little_more_than_their_text() -> None:
    """A hundred pieces of four bytes, stored together, take at most six bytes each."""
    events = _batch([TextDelta(text="four") for _ in range(100)])
    assert len(encode_events(events)) < 600


def test_a_small_turn_is_small() -> None:
    """A turn with nothing special takes little more than its words."""
    assert len(encode_turn(TURNS["x"])) < 100


def test_what_is_told_to_readers_only_is_not_stored() -> None:
    """`history.lost` belongs to a reader's view: no log may hold it."""
    with pytest.raises(Internal, match=r"history\.lost"):
        encode_events(_batch([HistoryLost(lost_from="1-1", lost_to="1-2")]))


def test_lone_surrogates_become_question_marks() -> None:
    """Text that UTF-8 cannot hold is stored all the same, wherever it stands; its length stays."""
    turn = _turn(
        user="a\ud800", request=TurnRequest(input="\udfff", metadata={"\ud800": ["\ud801"]})
    )
    again = decode_turn(encode_turn(turn))
    assert (again.user, again.input, again.metadata) == ("a?", "?", {"?": ["?"]})
    deltas = _batch([TextDelta(text="\ud83d"), TextDelta(text="\udc4bx"), TextDelta(text="y")])
    assert [event.text for event in _again(deltas) if isinstance(event, TextDelta)] == [
        "?",
        "?x",
        "y",
    ]
    assert decode_said(encode_said([Message("user", "\ud800", "x", 1.0)]))[0].content == "?"


def test_a_number_too_large_for_a_counter_is_the_largest() -> None:
    """A provider that reports nonsense does not keep a turn from being stored."""
    turn = _turn(usage=Usage(input_tokens=10**30, output_tokens=-(10**30)))
    usage = decode_turn(encode_turn(turn)).usage
    assert (usage.input_tokens, usage.output_tokens) == (2**64 - 1, -(2**63))


def test_free_form_data_is_as_json_gives_it() -> None:
    """A tuple comes back as a list, not-a-number as None, a key that is a number as text."""
    value = {"a": (1, 2), "b": float("nan"), 3: "c"}
    assert decode_plain(encode_plain(value, "metadata")) == {"a": [1, 2], "b": None, "3": "c"}


@pytest.mark.parametrize(
    "value", [object(), {(1, 2): 3}, {"a": {1j}}], ids=["object", "key", "set"]
)
def test_what_is_not_plain_data_is_refused(value: object) -> None:
    """What has no form in JSON is named by what it is for."""
    with pytest.raises(InvalidRequest, match="metadata cannot be written as JSON") as caught:
        encode_turn(_turn(request=TurnRequest(input="x", metadata={"a": value})))
    assert caught.value.field == "metadata"
    with pytest.raises(InvalidRequest, match="result"):
        encode_events(_batch([ToolReturned(call_id="c", result=value)]))


def test_what_is_too_deep_is_refused() -> None:
    """Nesting without end is refused, not a crash."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidRequest, match="RecursionError"):
        encode_plain(value, "metadata")


def test_every_word_has_its_number() -> None:
    """A new state, priority or the like must be given a number: at the end of its table."""
    for words, kind in (
        (STATES, State),
        (PRIORITIES, Priority),
        (IF_BUSY, IfBusy),
        (ON_DISCONNECT, OnDisconnect),
    ):
        assert set(words) == set(get_args(kind))


def test_no_field_is_forgotten() -> None:
    """A field that is added to a turn, a request or an event must be stored, and tried here."""
    assert set(turn_fields) == set(Turn.__struct_fields__)
    assert set(request_fields) == set(TurnRequest.__struct_fields__)
    for kind in KINDS:
        own = set(kind.__struct_fields__) - set(Event.__struct_fields__)
        told_otherwise = {"turn"} if issubclass(kind, TurnEnded) else {"text"} & own
        assert {*FIELDS.get(kind, ()), *told_otherwise} == own
    parts = {PendingCall: 7, DecidedCall: 4, Usage: 6, TurnError: 3, Webhook: 1, Message: 4}
    for part, count in parts.items():
        assert len(part.__struct_fields__) == count


def test_what_an_earlier_version_wrote_is_read() -> None:
    """The bytes that were written first are read for ever; fields they lack have defaults."""
    words, numbers = ["x", "t", "u", "s", "a", None, "hello", ""], [0, 0, 0, 0, 1.5, None, 600]
    row = [*words, *numbers, 1, 0, 0, ["user"]]
    turn = decode_turn(msgspec.msgpack.encode(row))
    assert turn == _turn(created_at=1.5, roles=("user",))
    batch = [["x"], [0], [[0, 0, 1.0, 2], [2, 0, "ab", [1, 1]], [2, 0, "c"], [9, 0, 3.0]]]
    events = decode_events(
        msgspec.msgpack.encode(batch), epoch=7, last=5, session_id="s", turns=TURNS
    )
    assert events == _batch(
        [
            TurnQueued(position=2, at=1.0),
            TextDelta(text="a"),
            TextDelta(text="b"),
            TextDelta(text="c"),
            TurnCompleted(turn=TURNS["x"], at=3.0),
        ]
    )
    tool = [["x"], [], [[5, 0, 1.0, "c"]]]
    events = decode_events(msgspec.msgpack.encode(tool), epoch=7, last=1, session_id="s", turns={})
    assert events == _batch([ToolReturned(call_id="c", at=1.0)])
    said = msgspec.msgpack.encode(["x", [[True, "hi", 1.0]]])
    assert decode_said(said) == (Message("user", "hi", "x", 1.0),)
