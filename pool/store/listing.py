"""Pages of a listing: cursors that stay right while things are added and dropped."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from pool.errors import InvalidRequest


def place_of(cursor: str | None) -> int:
    """The place in a listing after which a page begins; `InvalidRequest` if it is no cursor.

    Places count from 1; None, the beginning, is 0.
    """
    if cursor is None:
        return 0
    # 18 digits hold any place; isascii keeps other scripts' digits out
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidRequest(
            "this is no cursor of this listing; give the next_cursor of the page before, or none",
            field="cursor",
        )
    return int(cursor)


class Listing:
    """Names in the order of their increasing numbers.

    Costs 16 bytes a name. Dropping one leaves a hole; holes are closed when they are half of it.
    """

    __slots__ = ("_holes", "_names", "_numbers")

    def __init__(self) -> None:
        self._names: list[str | None] = []
        self._numbers = array("Q")
        self._holes = 0

    def __len__(self) -> int:
        return len(self._names) - self._holes

    def add(self, number: int, name: str) -> None:
        """Put a name at the end. Its number is larger than any before, and never comes again."""
        self._numbers.append(number)
        self._names.append(name)

    def drop(self, number: int) -> None:
        """Take out the name with this number; `KeyError` if there is none."""
        index = bisect_left(self._numbers, number)
        found = index < len(self._numbers) and self._numbers[index] == number
        if not found or self._names[index] is None:
            raise KeyError(number)
        self._names[index] = None
        self._holes += 1
        if self._holes * 2 > len(self._names):
            self._close_holes()

    def after(self, number: int, limit: int) -> Sequence[tuple[int, str]]:
        """Up to `limit` numbers and names that follow a number (which may be gone)."""
        found: list[tuple[int, str]] = []
        for index in range(bisect_right(self._numbers, number), len(self._names)):
            if len(found) == limit:
                break
            name = self._names[index]
            if name is not None:
                found.append((self._numbers[index], name))
        return found

    def _close_holes(self) -> None:
        kept = [pair for pair in zip(self._names, self._numbers, strict=True) if pair[0]]
        self._names = [name for name, _ in kept]
        self._numbers = array("Q", (number for _, number in kept))
        self._holes = 0
