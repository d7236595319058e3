"""Circuit breakers: what keeps failing is left alone for a while, then tried by one call.

    closed      calls go through; `failures` in a row open it
    open        no call goes through for `reset_s`
    half_open   one call at a time goes through, the probe: it closes the breaker, or opens it again

The states and the count are those of the library `purgatory`, imported when the first breaker is
made. Four things it leaves to its user are done here: the time is monotonic, one probe goes at a
time, a call that was cancelled proves nothing (there it would count as a success), and the end of a
call that began before the last change is no longer news.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import isfinite
from types import TracebackType
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

from pool.errors import ConfigError

BreakerState = Literal["closed", "open", "half_open"]

# Who came while the probe was on its way asks again after so long; nobody knows when it will end.
PROBE_S: Final = 1.0
_STATES: Final[dict[str, BreakerState]] = {
    "closed": "closed",
    "opened": "open",
    "half-opened": "half_open",
}


class BreakerRule(Struct, frozen=True, kw_only=True):
    """When a breaker opens: after so many failures in a row, for `reset_s` seconds."""

    failures: int = 5
    reset_s: float = 30.0

    def __post_init__(self) -> None:
        if self.failures < 1:
            raise ConfigError("failures", self.failures, "write a number of at least 1")
        if not (isfinite(self.reset_s) and self.reset_s > 0):
            raise ConfigError("reset_s", self.reset_s, "write a number of seconds above 0")


class BreakerOpen(Exception):
    """The breaker `name` lets no call through; it may after `retry_after_s` seconds."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"{name} failed too often and is left alone for now")
        self.name = name
        self.retry_after_s = retry_after_s


class Changed(Protocol):
    """Is told of each change of a breaker, and must not raise."""

    def __call__(self, name: str, state: BreakerState, /) -> None:
        """Hear that the breaker `name` is in `state` now."""


class Breakers:
    """Breakers by name, all of one rule. `clock`: monotonic, in seconds."""

    __slots__ = ("_breakers", "_changed", "_clock", "_library", "_rule")

    def __init__(
        self, rule: BreakerRule, *, clock: Callable[[], float], changed: Changed | None = None
    ) -> None:
        self._rule = rule
        self._clock = clock
        self._changed = changed
        self._library = _library()
        self._breakers: dict[str, Breaker] = {}

    def __repr__(self) -> str:
        states = [breaker.state for breaker in self._breakers.values()]
        counted = ", ".join(f"{states.count(state)} {state}" for state in _STATES.values())
        return f"<Breakers [{counted}]>"

    def of(self, name: str) -> Breaker:
        """The breaker of that name, the same one each time. They are kept: names come from the
        configuration, never from a caller.
        """
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = Breaker(name, self._rule, self._library, self._clock, self._changed)
            self._breakers[name] = breaker
        return breaker


class Breaker:
    """One circuit breaker. Nothing of it awaits."""

    __slots__ = (
        "_changed",
        "_changes",
        "_circuit",
        "_clock",
        "_half",
        "_opened_at",
        "_probe",
        "_rule",
        "name",
    )

    def __init__(
        self,
        name: str,
        rule: BreakerRule,
        library: Any,
        clock: Callable[[], float],
        changed: Changed | None,
    ) -> None:
        self.name = name
        self._rule = rule
        self._clock = clock
        self._changed = changed
        self._circuit = library.Context(name, rule.failures, rule.reset_s)
        self._half = library.HalfOpenedState
        self._opened_at = 0.0
        self._changes = 0
        self._probe: Passage | None = None

    def __repr__(self) -> str:
        return f"<Breaker {self.name!r} {self.state}>"

    @property
    def state(self) -> BreakerState:
        """Where it stands. An open one becomes half open when the next call comes in time."""
        return _STATES[self._circuit.state]

    def enter(self) -> Passage:
        """A passage for one call, to be used in `with`; `BreakerOpen` if none may go through."""
        self.check()
        state = self.state
        if state == "open":
            self._circuit.set_state(self._half())
            self._note(state)
        passage = Passage(self, self._changes)
        if self.state == "half_open":
            self._probe = passage
        return passage

    def check(self) -> None:
        """`BreakerOpen` if no call may go through now. Changes nothing."""
        if self.state == "open":
            left_s = self._opened_at + self._rule.reset_s - self._clock()
            if left_s > 0:
                raise BreakerOpen(self.name, left_s)
        if self._probe is not None:
            raise BreakerOpen(self.name, PROBE_S)

    def _answered(self, passage: Passage) -> None:
        if self._probe is passage:
            self._end(passage, None, known=True)
            passage.changes = self._changes

    def _end(self, passage: Passage, error: BaseException | None, *, known: bool) -> None:
        if self._probe is passage:
            self._probe = None
        if not known or passage.changes != self._changes:
            return
        before = self.state
        if error is None:
            self._circuit.handle_end_request()
        else:
            self._circuit.handle_exception(error)
        self._note(before)

    def _note(self, before: BreakerState) -> None:
        # the library keeps what happened for its bus, which is not used
        self._circuit.messages.clear()
        state = self.state
        if state == before:
            return
        self._changes += 1
        if state == "open":
            self._opened_at = self._clock()
        if self._changed is not None:
            self._changed(self.name, state)


class Passage:
    """One call's way through a breaker. What it says first counts; silence proves nothing.

    Left with an exception, it has failed; with a cancellation, nothing is known; else it succeeded.
    """

    __slots__ = ("_breaker", "_ended", "changes")

    def __init__(self, breaker: Breaker, changes: int) -> None:
        self._breaker = breaker
        self._ended = False
        # how often the breaker had changed when the call went in
        self.changes = changes

    def __enter__(self) -> Passage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.succeeded()
        elif isinstance(error, Exception):
            self.failed(error)
        else:
            self.abandoned()

    def answered(self) -> None:
        """Something came. A probe need not have ended to let others through: the breaker closes.
        How the call ends is still to be said.
        """
        if not self._ended:
            self._breaker._answered(self)

    def succeeded(self) -> None:
        """The other side works. May be said before the call has ended: at an answer's first byte,
        or with an error that is the caller's own fault.
        """
        self._settle(None, known=True)

    def failed(self, error: Exception) -> None:
        """The other side does not work."""
        self._settle(error, known=True)

    def abandoned(self) -> None:
        """Nothing was learned: another call may probe."""
        self._settle(None, known=False)

    def _settle(self, error: Exception | None, *, known: bool) -> None:
        if not self._ended:
            self._ended = True
            self._breaker._end(self, error, known=known)


def _library() -> Any:
    try:
        return import_module("purgatory.domain.model")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "purgatory":
            raise
        remedy = 'a breaker needs another package: pip install "actorpool[models]"'
        raise ConfigError("breaker", "on", remedy) from None
