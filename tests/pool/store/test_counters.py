"""What can be a change, and what cannot."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from pool.errors import InvalidRequest
from pool.store.counters import VALUE_MAX, VALUE_MIN, Change


@pytest.mark.parametrize(
    ("given", "field"),
    [
        *(((name, 1, 1e10), "name") for name in ("", "a b", "a\n", "{a}")),
        *(((name, 1, 1e10), "name") for name in ("é", "a" * 257, "\udc80")),
        *((("a", amount, 1e10), "amount") for amount in (VALUE_MAX + 1, VALUE_MIN - 1)),
        *((("a", 1, 1e10, limit), "limit") for limit in (VALUE_MAX + 1, VALUE_MIN - 1)),
        *((("a", 1, at), "expires_at") for at in (nan, inf, -1.0, 1e13)),
    ],
)
def test_what_is_no_change_cannot_be_made(given: tuple[Any, ...], field: str) -> None:
    """No store is asked for it; the refusal names the part that is wrong."""
    with pytest.raises(InvalidRequest) as refused:
        Change(*given)
    assert refused.value.field == field


@pytest.mark.parametrize("value", [VALUE_MAX, VALUE_MIN, 0])
def test_what_fits_can_be_made(value: int) -> None:
    """The edges themselves belong to it, in amounts, limits, names and times."""
    change = Change("a" * 256, value, 1e12, value)
    assert (change.amount, change.limit, change.expires_at) == (value, value, 1e12)
