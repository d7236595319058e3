"""How often somebody may ask, and how many tokens they may use, in a stretch of time.

Time is cut into windows of `window_s` seconds, counted from the epoch: every process means the same
one. A request is counted when it is made, a turn's tokens when it has ended; tokens above the
limit are carried into the windows that follow, so that the next turn waits for as long as they
take.

Where the counts are kept is the `Windows`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from pool.errors import RateLimited
from pool.guard.rate_limits import RateLimit as RateLimit
from pool.guard.rate_limits import What as What
from pool.guard.rate_limits import Who as Who
from pool.guard.rate_limits import check_rates as check_rates
from pool.guard.rate_windows import Asking, Taken, Window, asking_of, taken_of
from pool.guard.rate_windows import StoreWindows as StoreWindows
from pool.guard.rate_windows import Windows as Windows
from pool.store.counters import Change, Counted, Counters
from pool.turn import Principal, Turn

# Tokens are carried into at most so many windows; who used still more is forgiven the rest.
CARRY_MAX: Final = 60
# How many full windows are remembered here, so that refusals cost the counts nothing.
_FULL_MAX: Final = 10_000
# How long, in seconds, where counts may fall again.
_FULL_S: Final = 1.0
# Of how many principals the windows are remembered.
_ASKING_MAX: Final = 10_000


class RateState(Struct, frozen=True, gc=False):
    """How a caller stands under a limit: what is left of its window, and in how many seconds that
    ends.
    """

    name: str
    what: What
    amount: int
    window_s: int
    left: int
    ends_in_s: float


class RatedRequest(Struct):
    """A request that counts, in windows of `at`. `open`: nothing has tried to count it yet, or what
    did has counted nothing.

    Once it was counted, or refused as one too many, it has the `windows` that its principal is to
    hear of, and their `counts`.
    """

    asking: Asking
    at: float
    open: bool = True
    windows: Sequence[Window] = ()
    # those of what is no window may follow
    counts: Sequence[int] = ()

    @property
    def states(self) -> list[RateState]:
        """How its principal stands under its limits; nothing before it was counted."""
        return [
            RateState(
                window.name,
                window.limit.what,
                window.amount,
                window.limit.window_s,
                max(0, window.amount - count),
                window.ends - self.at,
            )
            for window, count in zip(self.windows, self.counts, strict=False)
        ]


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

    def request(self, principal: Principal) -> RatedRequest | None:
        """What is to be counted for a principal. None: there are no limits."""
        if not self._limits:
            return None
        now = self._wall()
        return RatedRequest(self._at(principal, now), now)

    def check(self, request: RatedRequest) -> None:
        """`RateLimited` if there is no room for a request, as far as is known here."""
        if not self._full:
            return
        windows = request.asking.windows
        full = [each for each in windows if self._full.get(each.counter, 0.0) > request.at]
        if full:
            request.open = False
            request.windows, request.counts = full, [each.amount for each in full]
            raise _refusal(request, full)

    async def count(self, request: RatedRequest) -> None:
        """Count a request; `RateLimited` if it may not be made, `StoreUnavailable`.

        A request that is refused so is not counted: one caller that is over its limit takes nothing
        from its tenant.
        """
        request.open = False
        self._taken(request, await self._windows.take(request.asking))

    async def count_with(
        self, request: RatedRequest, changes: Sequence[Change], counters: Counters
    ) -> Counted:
        """Count a request and make other `changes`, all of it or nothing, in one step of
        `counters`, where the windows are: what became of the changes. `RateLimited`,
        `StoreUnavailable`.
        """
        request.open = False
        asking = request.asking
        own = len(asking.changes)
        made = [*asking.changes, *changes] if changes else asking.changes
        values, over = await counters.count(made)
        if over is not None and over >= own:
            request.open = True
            return Counted(values[own:], over - own)
        if over is None and asking.places is None:
            request.windows, request.counts = asking.windows, values
        else:
            self._taken(request, taken_of(asking, values[:own], over))
        return Counted(values[own:], None)

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

    def _taken(self, request: RatedRequest, taken: Taken) -> None:
        request.windows, request.counts = request.asking.windows, taken.counts
        if taken.over:
            now = request.at
            for window in taken.over:
                self._remember_full(window, now, window.ends if taken.exact else now + _FULL_S)
            raise _refusal(request, taken.over)

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


def _refusal(request: RatedRequest, over: Sequence[Window]) -> RateLimited:
    longest = max(over, key=lambda window: window.ends)
    limit = longest.limit
    whose = {"principal": "you", "tenant": "your tenant", "global": "all callers together"}
    return RateLimited(
        f"{whose[limit.who]} may use {longest.amount} {limit.what} in {limit.window_s} s; "
        "that is used up for now",
        retry_after_s=max(0.001, longest.ends - request.at),
        states=request.states,
    )
