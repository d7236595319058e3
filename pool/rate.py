"""How fast a counter grows."""

from __future__ import annotations

from collections import deque

# Rates are averages over so many seconds.
RATE_WINDOW_S = 60.0


class Rate:
    """How fast a counter grows, sampled at every tick of the pool."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, total: int, now: float) -> None:
        """Note the counter."""
        self._samples.append((now, total))
        while self._samples[0][0] < now - RATE_WINDOW_S:
            self._samples.popleft()

    def per_s(self, total: int, now: float) -> float:
        """Its growth a second, from the oldest sample of the window until now."""
        if not self._samples or now <= self._samples[0][0]:
            return 0.0
        then, before = self._samples[0]
        return (total - before) / (now - then)
