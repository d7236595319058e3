from __future__ import annotations

import msgspec

from protocol.client.events import HistoryLost, TextDelta
from protocol.client.ledger import Ledger


def delta(place, session_id="s"):
    """An event at a place."""
    return TextDelta(id=place, session_id=session_id, text="x")


def resumed(ledger):
    """What a new connection says first: the sessions of its hello, and the refs sent again."""
    hello, again = ledger.resume()
    return msgspec.json.decode(hello)["sessions"], [msgspec.json.decode(t)["ref"] for t in again]


def test_a_session_is_resumed_after_the_last_event_received():
    """The cursor of a session is that of its last event, taken or not."""
    ledger = Ledger({"s": "1-1"})
    ledger.event(delta("1-4"))
    assert resumed(ledger) == ({"s": "1-4"}, [])
    assert ledger.taken == {"s": "1-1"}


def test_an_event_is_had_once():
    """An event at or before the cursor is no news; one of a later epoch always is."""
    ledger = Ledger({})
    assert ledger.event(delta("1-9"))
    assert not ledger.event(delta("1-9"))
    assert not ledger.event(delta("1-8"))
    assert ledger.event(delta("1-10"))
    assert ledger.event(delta("2-3"))


def test_lost_history_may_lead_back():
    """What tells of lost events is passed on, and reading goes on after it."""
    ledger = Ledger({"s": "5-9"})
    lost = HistoryLost(id="5-2", session_id="s", start="5-9", end="5-2")
    assert ledger.event(lost)
    assert ledger.event(delta("5-3"))


def test_what_was_not_answered_is_sent_again_in_order():
    """Commands without an answer are repeated as they were; answered and refused ones are not."""
    ledger = Ledger({"s": "1-1"})
    refs = [ledger.command("turn", session_id="s", input=f"{n}") for n in range(4)]
    ledger.answered(refs[0])
    ledger.refused(refs[2])
    assert resumed(ledger)[1] == [refs[1], refs[3]]


def test_a_turn_of_a_session_without_a_cursor_is_sent_again():
    """Accepted, but nothing heard yet: the turn itself is where reading goes on from."""
    ledger = Ledger({})
    first = ledger.command("turn", session_id="new", input="1")
    second = ledger.command("turn", session_id="new", input="2")
    ledger.answered(first)
    ledger.answered(second)
    assert resumed(ledger) == ({}, [first])
    ledger.event(delta("1-1", "new"))
    assert resumed(ledger) == ({"new": "1-1"}, [])


def test_a_subscribe_is_resumed_from_the_cursor_of_its_answer():
    """From then on the session has a cursor."""
    ledger = Ledger({})
    ref = ledger.command("subscribe", session_id="s")
    assert resumed(ledger) == ({}, [ref])
    ledger.answered(ref, "1-5")
    assert resumed(ledger) == ({"s": "1-5"}, [])


def test_an_unsubscribed_session_is_not_resumed():
    """After the answer the session is forgotten."""
    ledger = Ledger({"s": "1-1"})
    ledger.answered(ledger.command("unsubscribe", session_id="s"))
    assert resumed(ledger) == ({}, [])
    assert ledger.take(delta("1-2")) is None


def test_a_quarter_of_the_window_is_acknowledged_at_a_time():
    """Acknowledgements come often enough that the window never closes on a reader that reads."""
    ledger = Ledger({})
    ledger.connected(window=8)
    said = []
    for number in range(1, 9):
        event = delta(f"1-{number}")
        ledger.event(event)
        said.append(ledger.take(event))
    acks = [msgspec.json.decode(text)["cursor"] for text in said if text]
    assert acks == ["1-2", "1-4", "1-6", "1-8"]


def test_in_the_smallest_window_every_event_is_acknowledged():
    """A window of one opens with each event."""
    ledger = Ledger({})
    ledger.connected(window=1)
    event = delta("1-1")
    ledger.event(event)
    assert ledger.take(event) is not None


def test_an_answer_to_nothing_is_passed_over():
    """A turn that was sent again as a resume is answered again: nobody waits for that."""
    ledger = Ledger({})
    ledger.answered(99)
    assert repr(ledger) == "<Ledger 0 sessions, 0 unanswered>"
