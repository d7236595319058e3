"""What an agent is to the pool, and what the pool is to an agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from pool.events import Event
from pool.turn import Mark, Message, Principal, Risk, TurnRequest


class ToolCall(Struct, frozen=True):
    """A call of a tool that the agent wants to make. `call_id` is unique within the turn; `risk` is
    what the tool's author says of it (None: nothing).
    """

    call_id: str
    name: str
    arguments: dict[str, Any] = {}
    risk: Risk | None = None


class Decision(Struct, frozen=True):
    """The answer of the gate. `ask` means: a human decides; end the turn as `paused`. `deciders`:
    one of these roles may (none: whoever asked for the turn, and operators).
    """

    action: Literal["allow", "deny", "ask"]
    reason: str = ""
    risk: Risk = "write"
    deciders: tuple[str, ...] = ()


ALLOW = Decision("allow")

# Asked before every tool call. May be async. Must be quick: an actor waits for it.
Gate = Callable[[Principal, ToolCall], Decision | Awaitable[Decision]]


class Approval(Struct, frozen=True):
    """What a human decided about one pending call."""

    call_id: str
    decision: Literal["approve", "deny"]
    by: str = ""
    reason: str = ""


class TurnInput(Struct, frozen=True):
    """What an agent gets for one turn.

    `state` is what this agent last returned for the session; `state_version` changes whenever it
    does, so that a warm actor need not decode it anew. `unseen` is what the transcript holds and
    the state does not: the words of an interrupted turn, or of another agent.

    `resume` is true when the state was made by this same turn, at a checkpoint or a pause: the
    input is in it already. `approvals` are then the humans' decisions about the calls that were
    pending.
    """

    input: str
    state: bytes | None = None
    state_version: int = 0
    unseen: tuple[Message, ...] = ()
    resume: bool = False
    approvals: tuple[Approval, ...] = ()


class TurnEnd(Struct, frozen=True):
    """How a turn ended for the agent.

    `done`: answered. `paused`: it waits for the humans whom its gate asked; `state` says where it
    was. `limit`: it stopped at `max_steps` or `max_tokens`; what was said counts.

    `output` is used only if no text was emitted. The state is replaced by `state` or grows by
    `append`; with neither it stays as it is. `marks` say how the answer came about. `overloaded`: a
    provider said that it has too much, though the turn was answered in another way.
    """

    status: Literal["done", "paused", "limit"] = "done"
    output: str | None = None
    state: bytes | None = None
    append: bytes | None = None
    marks: tuple[Mark, ...] = ()
    overloaded: bool = False


class Context(Protocol):
    """An agent's view of the turn that it runs."""

    @property
    def agent(self) -> str:
        """The name under which the agent is registered."""

    @property
    def session_id(self) -> str:
        """The session's id."""

    @property
    def turn_id(self) -> str:
        """The turn's id."""

    @property
    def attempt(self) -> int:
        """1, and one more for each time that the turn had to begin again."""

    @property
    def principal(self) -> Principal:
        """Who asked."""

    @property
    def request(self) -> TurnRequest:
        """What was asked for: its priority, its metadata, how complex the caller thinks it is."""

    @property
    def model(self) -> str | None:
        """The model to use instead of the agent's own, if a budget says so."""

    @property
    def deadline(self) -> float:
        """When the turn is cancelled, in seconds on `clock()`."""

    @property
    def max_steps(self) -> int:
        """How many steps (calls of a model) the agent may take."""

    @property
    def max_tokens(self) -> int | None:
        """How many tokens an answer may have, if there is a limit."""

    async def emit(self, event: Event) -> None:
        """Tell the turn's readers. In order; waits when the store is behind. `LimitExceeded` past
        the size that a turn may have.
        """

    async def gate(self, call: ToolCall) -> Decision:
        """Whether the tool may be called. A human's decision about this very call comes first."""

    async def checkpoint(self, state: bytes) -> None:
        """A safe point: should the actor crash, the turn goes on from here (`TurnInput.resume`).
        What the agent then reports to have used goes on from what it had reported here.
        """

    def idempotency_key(self, call: ToolCall) -> str:
        """The same key whenever this turn makes this call: give it to what has effects."""

    def conceal(self, value: Any) -> Any:
        """A JSON value, such as a tool's result, as a model may see it: where the tenant's privacy
        asks for it, with placeholders for what is personal or secret. What the agent was given, and
        what it gives to this context and in its `TurnEnd`, is so. `TooLarge` if nested too deep.
        """

    def reveal(self, value: Any) -> Any:
        """The way back: a JSON value of the model's, such as a tool's arguments, as it is meant."""

    def clock(self) -> float:
        """The pool's monotonic clock, in seconds."""


class Agent(Protocol):
    """The user's code that answers turns. One instance serves one turn at a time."""

    # Names the format of `state`, "name/version". State in another format is not handed over.
    # "" keeps no state.
    state_format: str

    async def open(self) -> None:
        """Once, in the actor's own task, before its first turn."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Answer one turn. It is cancelled by cancelling the task."""

    async def close(self) -> None:
        """Once, in the same task as `open`."""
