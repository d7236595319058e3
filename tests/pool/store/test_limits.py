"""How long a store keeps what is idle: options that are checked."""

from __future__ import annotations

import pytest

from pool.errors import ConfigError
from pool.store.limits import Retention


@pytest.mark.parametrize("name", Retention.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_retention_is_above_zero(name: str, value: float) -> None:
    """The error names the option, the value and what to write."""
    with pytest.raises(ConfigError, match=rf"retention\.{name} = .*above 0"):
        Retention(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("messages", "entries"), [(1, 1), (2, 1), (7, 3), (10_000, 5_000)])
def test_entries_are_at_most_two_messages(messages: int, entries: int) -> None:
    """A turn's words are one entry, and at least one entry is kept."""
    assert Retention(max_messages_per_session=messages).max_entries_per_session == entries
