"""How often somebody may ask, and how many tokens they may use, in a stretch of time.

Time is cut into windows of `window_s` seconds, counted from the epoch: every process means the same
one. A request is counted when it is made, a turn's tokens when it has ended; tokens above the
limit are carried into the windows that follow, so that the next turn waits for as long as they
take.

Where the counts are kept is the `Windows`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from pool.errors import RateLimited
from pool.guard.rate_limits import RateLimit as RateLimit
from pool.guard.rate_limits import What as What
from pool.guard.rate_limits import Who as Who
from pool.guard.rate_limits import check_rates as check_rates
from pool.guard.rate_windows import Asking, Window, asking_of
from pool.guard.rate_windows import StoreWindows as StoreWindows
from pool.guard.rate_windows import Windows as Windows
from pool.turn import Principal, Turn

# Tokens are carried into at most so many windows; who used still more is forgiven the rest.
CARRY_MAX: Final = 60
# How many full windows are remembered here, so that refusals cost the counts nothing.
_FULL_MAX: Final = 10_000
# How long, in seconds, where counts may fall again.
_FULL_S: Final = 1.0
# Of how many principals the windows are remembered.
_ASKING_MAX: Final = 10_000


class RateState(NamedTuple):
    """How a caller stands under a limit: what is left of its window, and in how many seconds that
    ends.
    """

    name: str
    what: What
    amount: int
    window_s: int
    left: int
    ends_in_s: float


class Rates:
    """Checks and counts what principals ask for, under all limits."""

    def __init__(
        self, limits: Sequence[RateLimit], *, windows: Windows, wall: Callable[[], float]
    ) -> None:
        check_rates(limits)
        self._limits = limits
        self._windows = windows
        self._wall = wall
        # by tenant and user: what they ask now; made anew if there are too many
        self._asking: dict[tuple[str, str], Asking] = {}
        # windows that are full, and until when that is known
        self._full: dict[str, float] = {}
        self._of_tokens = [limit for limit in limits if limit.what == "tokens"]

    def __repr__(self) -> str:
        return f"<Rates {[limit.name for limit in self._limits]}, {len(self._full)} full>"

    async def check(self, principal: Principal) -> Sequence[RateState]:
        """Count a request, and say how the principal stands; `RateLimited` if it may not.

        A request that is refused is not counted: one caller that is over its limit takes nothing
        from its tenant.
        """
        if not self._limits:
            return ()
        now = self._wall()
        asking = self._at(principal, now)
        windows = asking.windows
        if self._full:
            full = [each for each in windows if self._full.get(each.counter, 0.0) > now]
            if full:
                raise _refusal(full, _states(full, [each.amount for each in full], now), now)
        taken = await self._windows.take(asking)
        states = _states(windows, taken.counts, now)
        if taken.over:
            for window in taken.over:
                self._remember_full(window, now, window.ends if taken.exact else now + _FULL_S)
            raise _refusal(taken.over, states, now)
        return states

    def charging(self, turn: Principal | Turn, tokens: int) -> Sequence[tuple[Window, int]]:
        """What is to be added for the tokens of a turn that has ended, in its principal's name."""
        if not self._of_tokens or tokens <= 0:
            return ()
        windows = self._at(turn, self._wall()).windows
        return [(window, tokens) for window in windows if window.limit.what == "tokens"]

    async def charge(self, turn: Principal | Turn, tokens: int) -> None:
        """Count the tokens of a turn that has ended, in its principal's name."""
        charges = self.charging(turn, tokens)
        if charges:
            await self.carry(charges, await self._windows.add(charges))

    async def carry(self, charges: Sequence[tuple[Window, int]], counts: Sequence[int]) -> None:
        """Carry what was added, with these counts, and was too much into the windows after it."""
        for _ in range(CARRY_MAX - 1):
            charges = [
                (window.at(window.number + 1), min(amount, count - window.amount))
                for (window, amount), count in zip(charges, counts, strict=True)
                if count > window.amount
            ]
            if not charges:
                return
            counts = await self._windows.add(charges)

    def _at(self, who: Principal | Turn, now: float) -> Asking:
        whose = (who.tenant, who.user)
        known = self._asking.get(whose)
        if known is not None and known.since <= now < known.until:
            return known
        if len(self._asking) >= _ASKING_MAX:
            self._asking.clear()
        asking = self._asking[whose] = asking_of(self._limits, Principal(*whose), now)
        return asking

    def _remember_full(self, window: Window, now: float, until: float) -> None:
        if len(self._full) >= _FULL_MAX:
            self._full = {name: until for name, until in self._full.items() if until > now}
        if len(self._full) < _FULL_MAX:
            self._full[window.counter] = until


def _states(windows: Sequence[Window], counts: Sequence[int], now: float) -> list[RateState]:
    return [
        RateState(
            window.name,
            window.limit.what,
            window.amount,
            window.limit.window_s,
            max(0, window.amount - count),
            window.ends - now,
        )
        for window, count in zip(windows, counts, strict=True)
    ]


def _refusal(over: Sequence[Window], states: Sequence[RateState], now: float) -> RateLimited:
    longest = max(over, key=lambda window: window.ends)
    limit = longest.limit
    whose = {"principal": "you", "tenant": "your tenant", "global": "all callers together"}
    return RateLimited(
        f"{whose[limit.who]} may use {longest.amount} {limit.what} in {limit.window_s} s; "
        "that is used up for now",
        retry_after_s=max(0.001, longest.ends - now),
        states=states,
    )
