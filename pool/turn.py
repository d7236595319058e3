"""A turn: one input in one session and the agent's whole answer. Data and state machine, no I/O."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, TypedDict

import msgspec
from msgspec import Meta, Struct

from pool.errors import Conflict, InvalidRequest

State = Literal[
    "queued",
    "running",
    "waiting",
    "completed",
    "failed",
    "cancelled",
    "expired",
    "interrupted",
]
Priority = Literal["interactive", "default", "batch"]
IfBusy = Literal["queue", "reject", "interrupt", "rollback"]
OnDisconnect = Literal["continue", "cancel"]
Risk = Literal["read", "write", "dangerous"]
Complexity = Literal["low", "medium", "high"]
# How an answer came about, if not as usual: from the cache; or the last resort, for want of better.
Mark = Literal["cached", "degraded"]

# `$` alone would let a final newline pass
ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
Id = Annotated[str, Meta(pattern=ID_PATTERN, min_length=1, max_length=64)]
# Of a tool's call: visible ASCII, as providers make them; not what a path takes for a place in it.
CALL_ID_PATTERN: Final = r"^(?!\.{1,2}$)[!-~]{1,256}$(?!\n)"
CallId = Annotated[str, Meta(pattern=CALL_ID_PATTERN, min_length=1, max_length=256)]

_ENDS: Final[tuple[State, ...]] = ("completed", "failed", "cancelled", "expired", "interrupted")
TERMINAL: Final[frozenset[State]] = frozenset(_ENDS)
# Turns that end so have said something that belongs into the transcript.
SPOKEN: Final[frozenset[State]] = frozenset({"completed", "cancelled", "interrupted"})

_NEXT: Final[dict[State, frozenset[State]]] = {
    "queued": frozenset({"running", *_ENDS}),
    # back to queued: its actor crashed, or its approvals were decided
    "running": frozenset({"queued", "waiting", *_ENDS}),
    "waiting": frozenset({"queued", *_ENDS}),
    **{state: frozenset() for state in _ENDS},
}


class Principal(Struct, frozen=True, gc=False):
    """Who is calling. Everything a principal makes belongs to its tenant."""

    tenant: str = "default"
    user: str = "anonymous"
    roles: tuple[str, ...] = ("user",)


ANYONE: Final = Principal()


class Webhook(Struct, frozen=True, forbid_unknown_fields=True):
    """Where to post the turn when it has ended."""

    url: Annotated[str, Meta(min_length=1, max_length=2048)]


class TurnRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What a caller asks for. `deadline_s` counts from acceptance, queueing included."""

    input: Annotated[str, Meta(min_length=1)]
    agent: Id | None = None
    deadline_s: Annotated[float, Meta(gt=0, le=86_400)] = 600
    priority: Priority = "default"
    if_busy: IfBusy = "queue"
    on_disconnect: OnDisconnect = "continue"
    webhook: Webhook | None = None
    metadata: dict[str, Any] = {}
    # how hard the caller thinks it is: a hint for the choice of a model
    complexity: Complexity | None = None

    def digest(self, agent: str) -> bytes:
        """Sixteen bytes that are equal for equal requests; a default counts as given."""
        body: tuple[Any, ...] = (
            self.input,
            agent,
            float(self.deadline_s),
            self.priority,
            self.if_busy,
            self.on_disconnect,
            self.webhook and self.webhook.url,
            self.metadata,
        )
        if self.complexity is not None:
            # digests that were kept before there were hints stay what they were
            body = (*body, self.complexity)
        return blake2b(msgspec.json.encode(body, order="deterministic"), digest_size=16).digest()


class TurnOptions(TypedDict, total=False):
    """What may be said about a turn besides its input; see `TurnRequest`."""

    agent: str | None
    deadline_s: float
    priority: Priority
    if_busy: IfBusy
    on_disconnect: OnDisconnect
    webhook: Webhook | None
    metadata: dict[str, Any]
    complexity: Complexity | None


def request_of(
    input: str,  # noqa: A002 - the word of the protocol
    options: TurnOptions,
    *,
    on_disconnect: OnDisconnect,
) -> TurnRequest:
    """A request made in Python, checked as one that came over the wire; `InvalidRequest` says what
    is wrong. `on_disconnect` holds unless the options say otherwise.
    """
    if not options and type(input) is str and input:
        # as most ask: there is nothing to check
        return TurnRequest(input=input, on_disconnect=on_disconnect)
    options.setdefault("on_disconnect", on_disconnect)
    try:
        return msgspec.convert({"input": input, **options}, TurnRequest)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None


class Usage(Struct, gc=False):
    """What a turn used. `cost_usd` is None while no price is known, never zero for want of one."""

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    tool_calls: int = 0
    cost_usd: float | None = None
    models: tuple[str, ...] = ()


class TurnError(Struct, frozen=True, gc=False):
    """Why a turn failed, in words made for callers: never the text of an exception."""

    code: str
    detail: str
    retryable: bool = False


class PendingCall(Struct, frozen=True):
    """A tool call that waits for a human. `expires_at` is in seconds since the epoch; `asked` is
    the place in the session's log where the question was put. `deciders`: one of these roles may
    decide (none: whoever asked for the turn, and operators).
    """

    call_id: str
    name: str
    arguments: dict[str, Any]
    risk: Risk
    expires_at: float
    asked: int = 0
    deciders: tuple[str, ...] = ()


def same_arguments(shown: Any, given: Any) -> bool:
    """Whether arguments are exactly those that were shown. What Python takes for equal, and a tool
    may not, is another thing: true is not 1. (1 and 1.0 are one number, in JSON.)
    """
    if isinstance(shown, dict) and isinstance(given, dict):
        return shown.keys() == given.keys() and all(
            same_arguments(value, given[name]) for name, value in shown.items()
        )
    if isinstance(shown, list | tuple) and isinstance(given, list | tuple):
        return len(shown) == len(given) and all(map(same_arguments, shown, given))
    return isinstance(shown, bool) == isinstance(given, bool) and bool(shown == given)


class DecidedCall(Struct, frozen=True):
    """A pending call about which a human has decided, until the agent has acted on it."""

    call: PendingCall
    decision: Literal["approve", "deny"]
    by: str
    reason: str = ""


class Turn(Struct, kw_only=True, gc=False):
    """The record of a turn: what is stored, and what callers get.

    Times are seconds since the epoch (UTC), durations seconds. `output` is what was said so far:
    the text deltas since the last start, joined.
    """

    id: str
    tenant: str
    user: str
    session_id: str
    agent: str
    request: TurnRequest
    state: State = "queued"
    output: str = ""
    error: TurnError | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    pending: tuple[PendingCall, ...] = ()
    decided: tuple[DecidedCall, ...] = ()
    attempt: int = 0
    queued_s: float = 0.0
    run_s: float = 0.0
    created_at: float = 0.0
    finished_at: float | None = None
    # rolled back: adds nothing to the transcript, and readers drop it
    forgotten: bool = False
    # "limit": the agent stopped at its own limit of steps or tokens
    stop_reason: str | None = None
    # those of who asked; with `tenant` and `user` its principal
    roles: tuple[str, ...] = ()
    # its agent goes on from a state of this very turn: a checkpoint, or its pause
    resumes: bool = False
    # what of `usage` its agent has in that state (None: all of it)
    kept_usage: Usage | None = None
    # the process that its caller is connected to, if the turn is to end with that
    at: str = ""
    marks: tuple[Mark, ...] = ()

    @property
    def input(self) -> str:
        """The text that was asked."""
        return self.request.input

    @property
    def metadata(self) -> dict[str, Any]:
        """What the caller attached to the turn."""
        return self.request.metadata

    @property
    def ended(self) -> bool:
        """Whether the turn has reached a terminal state."""
        return self.state in TERMINAL

    @property
    def spoken(self) -> bool:
        """Whether the turn adds its input and output to the transcript.

        One that was cancelled before it ever ran was taken back: it adds nothing.
        """
        taken_back = self.state == "cancelled" and self.attempt == 0
        return self.state in SPOKEN and not taken_back and not self.forgotten

    def move(self, state: State) -> None:
        """Go to `state`; `Conflict` if a turn may not go there from where it is."""
        if state not in _NEXT[self.state]:
            raise Conflict(f"turn {self.id} is {self.state} and cannot become {state}")
        self.state = state


class Message(Struct, frozen=True, gc=False):
    """One entry of a session's transcript. `created_at` in seconds since the epoch."""

    role: Literal["user", "assistant"]
    content: str
    turn_id: str
    created_at: float


def messages(turn: Turn) -> tuple[Message, ...]:
    """What an ended turn adds to the transcript: its input and what was said, or nothing."""
    if not turn.spoken:
        return ()
    end = turn.finished_at if turn.finished_at is not None else turn.created_at
    asked = Message("user", turn.input, turn.id, turn.created_at)
    return (asked, Message("assistant", turn.output, turn.id, end)) if turn.output else (asked,)


class SessionInfo(Struct, frozen=True, kw_only=True):
    """A session as callers see it. Times in seconds since the epoch.

    `agent` is the one that answers turns that name none; `cursor` the end of the session's log;
    `ttl_s` how long it is kept after its last turn (None: the store's own limit).
    """

    id: str
    agent: str | None = None
    metadata: dict[str, Any] = {}
    ttl_s: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    turns: int = 0
    cursor: str = "0-0"
