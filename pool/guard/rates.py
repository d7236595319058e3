"""How often somebody may ask, and how many tokens they may use, in a stretch of time.

Time is cut into windows of `window_s` seconds, counted from the epoch: every process means the same
one. A request is counted when it is made, a turn's tokens when it has ended; tokens above the
limit are carried into the windows that follow, so that the next turn waits for as long as they
take.

Where the counts are kept is the `Windows`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Final, Literal, NamedTuple, Protocol

from msgspec import Struct

from pool.errors import ConfigError, RateLimited
from pool.guard.naming import name_part
from pool.store.counters import Change, Counters
from pool.turn import Principal

Who = Literal["principal", "tenant", "global"]
What = Literal["requests", "tokens"]

# Tokens are carried into at most so many windows; who used still more is forgiven the rest.
CARRY_MAX: Final = 60
# How many full windows are remembered here, so that refusals cost the counts nothing.
_FULL_MAX: Final = 10_000
# Of how many principals the names of counters are remembered.
_FIRST_MAX: Final = 10_000


class RateLimit(Struct, frozen=True, kw_only=True):
    """At most `amount` requests or tokens in `window_s` seconds: of each principal (a user of a
    tenant), each tenant, or all together. `of`: amounts of some tenants or principals
    (`tenant/user`) that are others than `amount`.
    """

    who: Who = "principal"
    what: What = "requests"
    amount: int
    window_s: int = 60
    of: Mapping[str, int] = {}

    def __post_init__(self) -> None:
        for option in ("amount", "window_s"):
            value = getattr(self, option)
            if value < 1:
                raise ConfigError(f"rate {self.name}: {option}", value, "write at least 1")
        for subject, amount in self.of.items():
            if amount < 1:
                raise ConfigError(f"rate {self.name}: of.{subject}", amount, "write at least 1")
        if self.of and self.who == "global":
            raise ConfigError(
                f"rate {self.name}: of", dict(self.of), "global is for all: leave out"
            )

    @property
    def name(self) -> str:
        """What callers see it as: `principal-requests-60`."""
        return f"{self.who}-{self.what}-{self.window_s}"

    def subject(self, principal: Principal) -> str:
        """In whose name a principal's requests count."""
        if self.who == "global":
            return ""
        if self.who == "tenant":
            return principal.tenant
        return f"{principal.tenant}/{principal.user}"


class Window(NamedTuple):
    """One window of one subject under one limit: so much of `amount` may be counted in it. `key` is
    what the names of the subject's windows begin with.
    """

    limit: RateLimit
    amount: int
    key: str
    number: int

    @property
    def ends(self) -> float:
        """When it ends and its count is forgotten, in seconds since the epoch."""
        return float((self.number + 1) * self.limit.window_s)

    @property
    def following(self) -> Window:
        """The next one."""
        return self._replace(number=self.number + 1)

    @property
    def name(self) -> str:
        """The name of its count."""
        return f"{self.key}:{self.number}"


class Windows(Protocol):
    """Where counts are kept."""

    async def add(self, windows: Sequence[tuple[Window, int]]) -> Sequence[int]:
        """Add to the counts of windows, perhaps 0; the counts then, in the same order.
        `StoreUnavailable`.
        """


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


class StoreWindows:
    """Counts in a store: all windows in one call, in whichever store there is."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    async def add(self, windows: Sequence[tuple[Window, int]]) -> Sequence[int]:
        """See `Windows.add`."""
        changes = [Change(window.name, amount, window.ends) for window, amount in windows]
        return (await self._counters.count(changes)).values


class Rates:
    """Checks and counts what principals ask for, under all limits."""

    def __init__(
        self, limits: Sequence[RateLimit], *, windows: Windows, wall: Callable[[], float]
    ) -> None:
        names = [limit.name for limit in limits]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError("rates", name, "write each limit once, or with other windows")
        self._limits = limits
        self._windows = windows
        self._wall = wall
        # the first windows there ever were, of tenants and users; made anew if there are too many
        self._first: dict[tuple[str, str], Sequence[Window]] = {}
        # windows that are full, and when they end
        self._full: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Rates {[limit.name for limit in self._limits]}, {len(self._full)} full>"

    async def check(self, principal: Principal) -> Sequence[RateState]:
        """Count a request, and say how the principal stands; `RateLimited` if it may not.

        A request that is refused is not counted: one caller that is over its limit takes nothing
        from its tenant.
        """
        now = self._wall()
        windows = self._at(principal, now)
        if not windows:
            return ()
        full = self._full and [each for each in windows if self._full.get(each.name, 0.0) > now]
        if full:
            raise _refusal(full, _states(full, [window.amount for window in full], now), now)
        asked = [1 if window.limit.what == "requests" else 0 for window in windows]
        counts = await self._windows.add(list(zip(windows, asked, strict=True)))
        # a request fits if it is within the amount, a turn if anything is left for its tokens
        over = [
            window
            for window, one, count in zip(windows, asked, counts, strict=True)
            if count + 1 - one > window.amount
        ]
        if over:
            for window in over:
                self._remember_full(window, now)
            await self._take_back(windows, asked)
            counts = [count - one for count, one in zip(counts, asked, strict=True)]
            raise _refusal(over, _states(windows, counts, now), now)
        return _states(windows, counts, now)

    async def charge(self, principal: Principal, tokens: int) -> None:
        """Count the tokens of a turn that has ended."""
        at = self._at(principal, self._wall())
        left = [(window, tokens) for window in at if window.limit.what == "tokens" and tokens > 0]
        for _ in range(CARRY_MAX):
            if not left:
                return
            counts = await self._windows.add(left)
            carried = [
                (window.following, min(amount, count - window.amount))
                for (window, amount), count in zip(left, counts, strict=True)
            ]
            left = [(window, amount) for window, amount in carried if amount > 0]

    def _at(self, principal: Principal, now: float) -> list[Window]:
        whose = (principal.tenant, principal.user)
        first = self._first.get(whose)
        if first is None:
            if len(self._first) >= _FIRST_MAX:
                self._first.clear()
            first = self._first[whose] = [_first(limit, principal) for limit in self._limits]
        return [
            Window(limit, amount, key, int(now // limit.window_s))
            for limit, amount, key, _ in first
        ]

    async def _take_back(self, windows: Sequence[Window], asked: Sequence[int]) -> None:
        back = [(window, -one) for window, one in zip(windows, asked, strict=True) if one]
        if back:
            await self._windows.add(back)

    def _remember_full(self, window: Window, now: float) -> None:
        if len(self._full) >= _FULL_MAX:
            self._full = {name: ends for name, ends in self._full.items() if ends > now}
        if len(self._full) < _FULL_MAX:
            self._full[window.name] = window.ends


def policy_field(states: Sequence[RateState]) -> str:
    """The value of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""
    return ", ".join(
        f'"{state.name}";q={state.amount};w={state.window_s};qu="{state.what}"' for state in states
    )


def limit_field(states: Sequence[RateState]) -> str:
    """The value of `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10)."""
    return ", ".join(f'"{state.name}";r={state.left};t={ceil(state.ends_in_s)}' for state in states)


def _first(limit: RateLimit, principal: Principal) -> Window:
    subject = limit.subject(principal)
    whose = ":".join(name_part(part) for part in subject.split("/", 1)) if subject else "all"
    return Window(limit, limit.of.get(subject, limit.amount), f"rate:{limit.name}:{whose}", 0)


def _states(windows: Sequence[Window], counts: Sequence[int], now: float) -> list[RateState]:
    return [_state(window, count, now) for window, count in zip(windows, counts, strict=True)]


def _state(window: Window, count: int, now: float) -> RateState:
    limit, left = window.limit, max(0, window.amount - count)
    ends_in_s = max(0.0, window.ends - now)
    return RateState(limit.name, limit.what, window.amount, limit.window_s, left, ends_in_s)


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
