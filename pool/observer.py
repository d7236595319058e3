"""What the engine tells those who watch it: frozen records through one small door.

An observer must be quick and must not await: it is called on the event loop. One that raises is
reported once and harms no turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, runtime_checkable

import structlog
from msgspec import Struct

from pool.agent import Decision, ToolCall
from pool.events import ModelStep
from pool.turn import PendingCall, Principal, Turn

_log = structlog.get_logger("pool.observer")

# What is called with the notices of one kind.
Take = Callable[[Any], None]
Move = Literal["given_away", "handed_back", "fenced", "adopted", "taken_over"]


class Notice(Struct, frozen=True, gc=False):
    """Base of everything an observer is told."""

    agent: str


class TurnRefusedNotice(Notice, frozen=True, gc=False):
    """A turn was not admitted; `code` is the error's, `tenant` whose it was, `user` who asked."""

    code: str
    tenant: str
    user: str = ""
    roles: tuple[str, ...] = ()
    session_id: str = ""
    request_id: str = ""


class InputFlaggedNotice(Notice, frozen=True, gc=False):
    """An input looks like an attempt to take over the model's instructions, by these `rules`: its
    turn goes on (`flag`), or was not accepted (`refuse`). `principal` asked for it.
    """

    action: Literal["flag", "refuse"]
    rules: tuple[str, ...]
    principal: Principal
    session_id: str
    request_id: str


class TurnAcceptedNotice(Notice, frozen=True):
    """The store has a new turn, whichever process runs it."""

    turn: Turn
    request_id: str


class ToolDecidedNotice(Notice, frozen=True):
    """It was decided about a tool's call: by a `human`, or by the `gate` (the rules, and the
    agent's own). `principal` asked for the turn.
    """

    turn_id: str
    principal: Principal
    request_id: str
    call: ToolCall
    decision: Decision
    by: Literal["human", "gate"]


class CallDecidedNotice(Notice, frozen=True):
    """The store has what was decided about a call that waited for a human; `by` is None if its time
    was over.
    """

    turn: Turn
    call: PendingCall
    decision: Literal["approve", "deny"]
    by: Principal | None
    request_id: str


class DecisionRefusedNotice(Notice, frozen=True, gc=False):
    """Somebody wanted to decide about a call that is not theirs to decide."""

    turn_id: str
    tool: str
    by: Principal
    request_id: str


class ModelDecidedNotice(Notice, frozen=True, gc=False):
    """An agent told what was decided about its model; see `pool.events.ModelDecided`."""

    turn_id: str
    step: ModelStep
    model: str
    reason: str


class TurnStartedNotice(Notice, frozen=True, gc=False):
    """A turn began to run after `queued_s` seconds."""

    turn_id: str
    attempt: int
    queued_s: float


class TurnRepeatedNotice(Notice, frozen=True, gc=False):
    """A turn began to run again, for the `attempt`th time: the one before broke off."""

    turn_id: str
    attempt: int


class TurnEndedNotice(Notice, frozen=True):
    """A turn ended. `first_token_s` is the time from acceptance to its first text, if there was
    any.
    """

    turn: Turn
    request_id: str
    first_token_s: float | None


class TurnMovedNotice(Notice, frozen=True, gc=False):
    """A turn changed the process that runs it. `how`, seen from here: it was `given_away` to one
    with room, `handed_back` at a shutdown, lost (`fenced`) because another claimed its session; or
    it came: `adopted` because its session is here, `taken_over` because nobody ran it.
    """

    turn_id: str
    how: Move


class ActorStartedNotice(Notice, frozen=True, gc=False):
    """An actor is open and idle after `start_s` seconds."""

    actor: str
    start_s: float


class ActorStoppedNotice(Notice, frozen=True, gc=False):
    """An actor is gone: `retired`, `crashed`, `abandoned` or `failed` (to open). `error` is a
    type's name.
    """

    actor: str
    reason: str
    error: str | None = None


class AgentStateNotice(Notice, frozen=True, gc=False):
    """The agent went to `state` ("ready" or "degraded")."""

    state: str
    detail: str


class ScaledNotice(Notice, frozen=True, gc=False):
    """The number of actors wanted went from `before` to `after`."""

    before: int
    after: int


class LimitChangedNotice(Notice, frozen=True, gc=False):
    """The concurrency limit went from `before` to `after`."""

    limit: str
    before: int
    after: int


class TasksLeakedNotice(Notice, frozen=True, gc=False):
    """A turn ended and left `count` tasks behind; they were cancelled."""

    turn_id: str
    count: int


class LoopBlockedNotice(Notice, frozen=True, gc=False):
    """The event loop stood still for `blocked_s` seconds, in this agent's code at `where`."""

    turn_id: str
    blocked_s: float
    where: str


class Observer(Protocol):
    """Somebody who wants to know: everything, unless it is a `Chooser`."""

    def notice(self, notice: Notice) -> None:
        """Take note of it; return at once."""


@runtime_checkable
class Chooser(Observer, Protocol):
    """An observer that wants some kinds of notices only: what nobody wants is not even made."""

    def taker(self, kind: type[Notice]) -> Take | None:
        """What is called with notices of a kind, in place of `notice`; None: they are not wanted.
        It is asked once about each.
        """


class Observers:
    """All observers of a pool. Falsy when there are none, so that nobody makes a record in vain."""

    __slots__ = ("_all", "_broken", "_takers")

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._all = tuple(observers)
        self._broken: set[int] = set()
        # by kind, each with whose it is
        self._takers: dict[type[Notice], list[tuple[Take, Observer]]] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def wants(self, kind: type[Notice]) -> bool:
        """Whether anybody wants notices of a kind, now and ever: for who would make one for every
        turn.
        """
        return bool(self._takers_of(kind))

    def notice(self, notice: Notice) -> None:
        """Tell every observer that wants it; one that raises is logged once and told again next
        time.
        """
        takers = self._takers.get(type(notice))
        for take, observer in self._takers_of(type(notice)) if takers is None else takers:
            try:
                take(notice)
            except Exception:
                self._broke(observer)

    def _takers_of(self, kind: type[Notice]) -> list[tuple[Take, Observer]]:
        found = self._takers.get(kind)
        if found is None:
            found = self._takers[kind] = []
            for observer in self._all:
                try:
                    take = (
                        observer.taker(kind) if isinstance(observer, Chooser) else observer.notice
                    )
                except Exception:
                    self._broke(observer)
                    continue
                if take is not None:
                    found.append((take, observer))
        return found

    def _broke(self, observer: Observer) -> None:
        if id(observer) not in self._broken:
            self._broken.add(id(observer))
            _log.exception("observer failed", observer=repr(observer))
