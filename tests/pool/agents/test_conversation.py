"""A conversation as state, and cut to a window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.agents.conversation import Call, Conversation, Entry, ModelSaid, ToolSaid, UserSaid
from pool.errors import AgentFailed
from pool.turn import Message, Usage

CALL = Call("s1c0", "call_1", "add", {"a": 1})


def told(*entries: Entry) -> Conversation:
    """A conversation of these entries."""
    talk = Conversation()
    for entry in entries:
        talk.add(entry)
    return talk


def test_state_is_read_back_as_it_was_written():
    """Whatever was said, with whatever line ends in it, comes back from the state."""
    entries: list[Entry] = [
        UserSaid("one\ntwo\r\n\u2028\x0b three"),
        ModelSaid("", (CALL, Call("s1c1", "call_2", "x", flaw="bad"))),
        ToolSaid("call_1", "2"),
        ModelSaid("dà"),
    ]

    assert list(Conversation.load(told(*entries).state()).entries) == entries


def test_state_grows_by_what_was_added():
    """What a later turn adds, put behind the earlier state, is the whole conversation."""
    first = told(UserSaid("a"), ModelSaid("b"))
    state = first.state()
    talk = Conversation.load(state)
    talk.begin((), "c")
    talk.add(ModelSaid("d"))

    growth = talk.take_growth()

    assert growth is not None
    assert state + growth == talk.state()
    assert talk.take_growth() == b""


def test_checkpoint_holds_what_the_turn_used_and_is_not_grown():
    """A checkpoint brings the usage and the attempt back; the state after it is written anew."""
    talk = told(UserSaid("a"))
    talk.usage.requests = 3
    state = talk.checkpoint(2)

    assert talk.take_growth() is None
    loaded = Conversation.load(state)
    assert (loaded.usage.requests, loaded.attempt) == (3, 2)
    assert loaded.take_growth() is None
    assert loaded.state() == talk.state()


@pytest.mark.parametrize(
    "state",
    [
        b"\x80\x04pickle",
        b"{}\n",
        b'{"role": "tool"}',
        b"[" * 5000,
        b'{"role":"user","text":"\xff"}',
    ],
)
def test_state_that_is_no_conversation_is_refused(state):
    """A state that cannot be read fails the turn and says what to do."""
    with pytest.raises(AgentFailed, match="begin a new session"):
        Conversation.load(state)


def test_call_that_was_never_answered_is_answered_by_the_next_turn():
    """A turn that was dropped while it waited leaves no call without a result."""
    talk = told(
        UserSaid("a"), ModelSaid("", (CALL, Call("s1c1", "call_2", "x"))), ToolSaid("call_2", "2")
    )
    assert [call.ref for call in talk.open_calls] == ["call_1"]

    talk.begin((), "b")

    assert talk.open_calls == []
    assert talk.entries[-2] == ToolSaid(
        "call_1", "not run: the turn ended before this call was decided"
    )


def test_new_turn_adds_what_was_said_elsewhere_before_its_input():
    """The transcript's unseen messages come first, by role, then the input."""
    talk = Conversation()
    talk.usage = Usage(requests=4)

    talk.begin((Message("user", "a", "t0", 0.0), Message("assistant", "b", "t0", 0.0)), "c")

    assert list(talk.entries) == [UserSaid("a"), ModelSaid("b"), UserSaid("c")]
    assert talk.usage == Usage()


def test_conversation_within_its_window_is_left_alone():
    """Nothing is cut while the conversation fits."""
    talk = told(UserSaid("a" * 400), ModelSaid("b" * 400), UserSaid("c"))
    talk.trim(talk.tokens)

    assert len(talk.entries) == 3


def test_oldest_exchanges_go_first():
    """Cutting leaves the newest exchanges whole and takes a quarter more than it must."""
    talk = told(
        *(said for n in range(10) for said in (UserSaid(f"{n}" * 190), ModelSaid("x" * 190)))
    )

    talk.trim(window_tokens=600)

    assert talk.entries[0] == UserSaid("6" * 190)
    assert talk.tokens <= 450
    assert talk.take_growth() is None


def test_long_turn_loses_its_first_steps_but_not_its_question():
    """Within one turn the first steps go, each with its results; question and last step stay."""
    steps = [
        said
        for n in range(6)
        for said in (ModelSaid("", (Call(f"s{n}c0", f"c{n}", "x"),)), ToolSaid(f"c{n}", "y" * 400))
    ]
    talk = told(UserSaid("before"), ModelSaid("before"), UserSaid("question"), *steps)

    talk.trim(window_tokens=400)

    assert list(talk.entries) == [UserSaid("question"), *steps[-4:]]


entries = st.lists(
    st.sampled_from(
        [
            [UserSaid("u" * 50)],
            [ModelSaid("m" * 80)],
            [
                ModelSaid("", (CALL, Call("s1c1", "call_2", "x"))),
                ToolSaid("call_2", ""),
                ToolSaid("call_1", "t" * 90),
            ],
        ]
    ),
    max_size=12,
)


@given(groups=entries, window=st.integers(1, 400))
def test_whatever_is_cut_calls_keep_their_results(groups, window):
    """However it is cut, it begins with a question, and calls and results stay together."""
    talk = told(*(entry for group in groups for entry in group))
    talk.begin((), "last")
    whole = list(talk.entries)

    talk.trim(window)

    left = list(talk.entries)
    assert left[-1] == whole[-1]
    assert left == whole or isinstance(left[0], UserSaid)
    asked = [call.ref for entry in left if isinstance(entry, ModelSaid) for call in entry.calls]
    answered = [entry.ref for entry in left if isinstance(entry, ToolSaid)]
    assert sorted(asked) == sorted(answered)
    again = told(*left)
    assert again.tokens == talk.tokens
