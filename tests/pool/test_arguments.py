"""An approval holds for exactly the arguments that were shown."""

from __future__ import annotations

from typing import Any

import pytest

from pool.turn import same_arguments


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ({}, {}),
        ({"n": 1}, {"n": 1.0}),
        ({"a": [1, {"b": None}]}, {"a": (1, {"b": None})}),
        ({"a": "x", "b": True}, {"b": True, "a": "x"}),
    ],
)
def test_what_says_the_same_is_the_same(shown: Any, given: Any) -> None:
    """The order of names, and the way in which a number is written, say nothing."""
    assert same_arguments(shown, given)
    assert same_arguments(given, shown)


@pytest.mark.parametrize(
    ("shown", "given"),
    [
        ({"n": 1}, {"n": True}),
        ({"n": 0}, {"n": False}),
        ({"n": [0]}, {"n": [False]}),
        ({"n": 1}, {"n": "1"}),
        ({"n": 1}, {"n": 1, "m": None}),
        ({"n": [1, 2]}, {"n": [1]}),
        ({"n": None}, {}),
        ({"n": {}}, {"n": []}),
    ],
)
def test_anything_else_is_another_call(shown: Any, given: Any) -> None:
    """What Python takes for equal included: true is not 1."""
    assert not same_arguments(shown, given)
    assert not same_arguments(given, shown)
