"""A sealed state grows by its end, and opens to what was put in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.guard.sealing import seal, unseal

FRAMES = st.lists(st.tuples(st.dictionaries(st.text(), st.text()), st.binary()))


@given(FRAMES)
def test_frames_open_to_all_values_and_the_whole_state(
    frames: list[tuple[dict[str, str], bytes]],
) -> None:
    """However often it grew."""
    sealed = b"".join(seal(values, piece) for values, piece in frames)
    values, state = unseal(sealed)
    assert state == b"".join(piece for _, piece in frames)
    expected: dict[str, str] = {}
    for new, _ in frames:
        expected.update(new)
    assert values == expected


@pytest.mark.parametrize(
    "sealed", [b"x", seal({}, b"ab")[:-1], seal({"a": "b"}, b"")[:-1], b"\0\0\0\1\0\0\0\0x"]
)
def test_what_is_cut_or_no_frame_is_told(sealed: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match="of a sealed state"):
        unseal(sealed)


def test_a_state_without_values_costs_eight_bytes() -> None:
    """For each piece."""
    assert len(seal({}, b"abc")) == 11


def test_a_value_that_cannot_be_written_does_not_break_the_state() -> None:
    """What UTF-8 cannot hold is `?`, as everywhere."""
    assert unseal(seal({"a": "x\ud800"}, b"")) == ({"a": "x?"}, b"")
