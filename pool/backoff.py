"""When to try again after failures: exponential, with jitter, forgetful. Pure."""

from __future__ import annotations

from collections import deque
from random import Random


class Backoff:
    """The history of one thing's failures.

    The n-th failure in a row waits `first_s * 2**(n-1)`, at most `max_s`, times a random factor of
    0.5 to 1, so that many that failed together do not come back together. `tolerated` failures
    within `window_s` are ordinary; more are `excessive`, and the next try waits until the window
    has room again.
    """

    def __init__(
        self,
        *,
        first_s: float,
        max_s: float,
        quiet_s: float,
        tolerated: int,
        window_s: float,
        random: Random,
    ) -> None:
        self.first_s = first_s
        self.max_s = max_s
        self.quiet_s = quiet_s
        self.tolerated = tolerated
        self.window_s = window_s
        self._random = random
        self._in_row = 0
        self._last: float | None = None
        self._recent: deque[float] = deque()

    def failed(self, now: float) -> float:
        """Note a failure; seconds to wait before the next try."""
        if self._last is not None and now - self._last > self.quiet_s:
            self._in_row = 0
        self._last = now
        self._in_row += 1
        self._recent.append(now)
        full_s = min(self.max_s, self.first_s * 2.0 ** min(self._in_row - 1, 60))
        wait_s = full_s * self._random.uniform(0.5, 1.0)
        return max(wait_s, self._room_in_s(now))

    def excessive(self, now: float) -> bool:
        """Whether more failed within the window than is tolerated."""
        self._forget(now)
        return len(self._recent) > self.tolerated

    def _room_in_s(self, now: float) -> float:
        if not self.excessive(now):
            return 0.0
        surplus = len(self._recent) - self.tolerated
        return min(self.max_s, self._recent[surplus - 1] + self.window_s - now)

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0] <= now - self.window_s:
            self._recent.popleft()
