"""The concurrency limit of a provider, and the permits under it.

Additive increase, multiplicative decrease (Chiu, Jain 1989): an explicit overload of the provider
lowers the limit to nine tenths, once a window; as many successes as the limit is high raise it by
one, while at least half of it is in use (an unused limit proves nothing).

Taking and giving back a permit never awaits, so that no cancellation can fall between.
"""

from __future__ import annotations


class Limiter:
    """Permits that can be resized while they are held. Shared by the agents of one provider."""

    def __init__(
        self, name: str, *, limit: int, ceiling: int, decrease: float, window_s: float
    ) -> None:
        self.name = name
        self.ceiling = ceiling
        self.held = 0
        # how many permits there are, at least 1
        self.limit = max(1, min(limit, ceiling))
        self._exact = float(self.limit)
        self._decrease = decrease
        self._window_s = window_s
        self._lowered_at: float | None = None
        self._successes = 0

    def __repr__(self) -> str:
        return f"<Limiter {self.name!r} [{self.held} held, {self.free} free, limit {self.limit}]>"

    @property
    def free(self) -> int:
        """How many permits may be taken now; 0 while more are held than a lowered limit allows."""
        return max(0, self.limit - self.held)

    def take(self) -> bool:
        """Take a permit if one is free."""
        if self.held >= self.limit:
            return False
        self.held += 1
        return True

    def give(self) -> None:
        """Give a permit back."""
        self.held -= 1

    def succeeded(self) -> bool:
        """The provider answered. True if the limit went up."""
        if self.limit >= self.ceiling or self.held * 2 < self.limit:
            return False
        self._successes += 1
        if self._successes < self.limit:
            return False
        self._successes = 0
        return self._set(self.limit + 1.0)

    def overloaded(self, now: float) -> bool:
        """The provider said it has too much. True if the limit went down."""
        self._successes = 0
        if self._lowered_at is not None and now < self._lowered_at + self._window_s:
            return False
        self._lowered_at = now
        return self._set(self._exact * self._decrease)

    def resize(self, ceiling: int) -> None:
        """Set the most there may ever be. A limit that stood at its ceiling goes with it."""
        follows = self._exact >= self.ceiling
        self.ceiling = ceiling
        self._set(float(ceiling) if follows else self._exact)

    def _set(self, exact: float) -> bool:
        before = self.limit
        self._exact = min(max(1.0, exact), float(self.ceiling))
        self.limit = int(self._exact)
        return self.limit != before
