"""How long to wait before trying again, and when to give up. Pure but for the clock it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_FIRST_S: Final = 0.1
_MOST_S: Final = 10.0
# A connection that lasted so long worked, whether it brought anything or not.
_STABLE_S: Final = 5.0
# What the server asks for is exceeded by up to this part, so that not all come back at once.
_SPREAD: Final = 0.2


class Patience:
    """The pauses between the tries of one call: doubled each time, jittered, for `limit_s` in all.

    A pause that would outlast the limit is not begun.
    """

    def __init__(
        self, limit_s: float, *, clock: Callable[[], float], random: Callable[[], float]
    ) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._random = random
        self._tries = 0
        self._until = clock() + limit_s
        self._connected_at: float | None = None

    def connected(self) -> None:
        """There is a connection: if it lasts, the next break of it begins anew."""
        self._connected_at = self._clock()

    def reset(self) -> None:
        """It worked: begin anew."""
        self._tries = 0
        self._until = self._clock() + self._limit_s

    def pause_s(self, after_s: float | None = None) -> float | None:
        """How long to wait now, in seconds; None to give up. `after_s` is the server's wish."""
        connected_at, self._connected_at = self._connected_at, None
        if connected_at is not None and self._clock() - connected_at >= _STABLE_S:
            self.reset()
        if after_s is not None:
            pause = after_s * (1 + _SPREAD * self._random())
        else:
            pause = min(_MOST_S, _FIRST_S * 2**self._tries) * (0.5 + 0.5 * self._random())
        # past the largest pause the number of tries no longer counts
        self._tries = min(self._tries + 1, 10)
        return pause if self._clock() + pause <= self._until else None
