"""What one attempt of a turn looks like from behind the veil."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pool.agent import Decision, TurnEnd, TurnInput
from pool.errors import TooLarge
from pool.events import Event, ReasoningDelta, TextDelta, UsageReported
from pool.guard.redact import Redactor
from pool.guard.sealing import unseal
from pool.guard.veil import Veil
from pool.turn import Usage
from tests.support.private import numbered

REDACTOR = Redactor(("email",))


def veil(state: bytes | None = None, salt: str = "t1:1") -> Veil:
    """A veil over e-mail addresses."""
    return Veil(REDACTOR, state, salt=salt)


def shown(veil: Veil, *events: Event) -> Sequence[Event]:
    """What readers see of events, with what is held back at the end."""
    return [each for event in events for each in veil.events(event)] + list(veil.held())


def test_a_placeholder_in_pieces_is_shown_whole() -> None:
    """Nobody sees a part of it; what else is said is not held back."""
    over = veil()
    text = over.conceal("ann@example.com")
    pieces = ["to ", text[:4], text[4:9], text[9:] + " now"]
    assert shown(over, *map(TextDelta, pieces)) == [
        TextDelta("to "),
        TextDelta("ann@example.com now"),
    ]


def test_an_event_that_comes_between_does_not_split_a_text() -> None:
    """Usage is reported while a text goes on; reasoning is another text."""
    over = veil()
    text = over.conceal("ann@example.com")
    usage = UsageReported(Usage())
    said = shown(over, TextDelta(text[:5]), usage, TextDelta(text[5:]))
    assert said == [usage, TextDelta("ann@example.com")]
    said = shown(over, TextDelta(text[:5]), ReasoningDelta(text))
    assert said == [TextDelta(text[:5]), ReasoningDelta("ann@example.com")]


def test_an_agents_own_event_is_left_as_it_is() -> None:
    """It may emit it again."""
    over = veil()
    event = TextDelta(over.conceal("ann@example.com"))
    assert shown(over, event, event) == [TextDelta("ann@example.com")] * 2
    assert numbered(event.text) == "<email 1>"


def test_numbers_depend_on_the_attempt_and_go_on_in_the_session() -> None:
    """A value that is known keeps its placeholder, whichever attempt it is."""
    first = veil()
    ann = first.conceal("ann@example.com")
    assert ann == veil().conceal("ann@example.com")
    assert ann != veil(salt="t1:2").conceal("ann@example.com")
    end = first.end(TurnEnd(state=b"kept"))
    again = veil(end.state, salt="t2:1")
    assert again.conceal("ann@example.com") == ann
    assert again.conceal("bob@example.com") != ann
    # the same place once more: what is taken is not given anew
    assert veil(end.state).conceal("bob@example.com") not in (ann, "bob@example.com")


def test_what_grows_brings_only_what_is_new() -> None:
    """Unless the turn goes on from a checkpoint, of which the session knows nothing."""
    over = veil()
    over.conceal("ann@example.com")
    state = over.end(TurnEnd(state=b"1")).state
    for resume, count in ((False, 1), (True, 2)):
        over = veil(state)
        over.given(TurnInput("bob@example.com", state=state, resume=resume))
        grown = over.end(TurnEnd(append=b"2")).append
        assert grown is not None
        values, piece = unseal(grown)
        assert (len(values), piece) == (count, b"2")


def test_what_is_nested_too_deep_is_refused() -> None:
    """Rather than shown as it is."""
    deep: object = "x"
    for _ in range(101):
        deep = [deep]
    with pytest.raises(TooLarge):
        veil().conceal(deep)


def test_reasons_go_behind_the_veil() -> None:
    """A gate's and a human's; a decision without one is itself."""
    plain = Decision("allow")
    assert veil().decision(plain) is plain
    hidden = veil().decision(Decision("deny", "ask ann@example.com"))
    assert numbered(hidden.reason) == "ask <email 1>"


def test_values_are_not_shown() -> None:
    """A log that names the object does not name them."""
    over = veil()
    over.conceal("ann@example.com")
    assert repr(over) == "<Veil over 1 values>"
