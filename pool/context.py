"""An agent's view of the turn that it runs (`pool.agent.Context`)."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from pool.agent import Decision, Gate, ToolCall
from pool.config import AgentSpec, PoolConfig
from pool.errors import AgentFailed, Conflict, LimitExceeded
from pool.events import (
    ApprovalRequested,
    Event,
    ModelDecided,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from pool.live import LiveTurn
from pool.observer import ModelDecidedNotice, Observers, ToolDecidedNotice
from pool.reported import reported, total
from pool.store.base import StateChange
from pool.text import writable
from pool.turn import CALL_ID_PATTERN, PendingCall, Principal, TurnRequest, Usage, same_arguments

if TYPE_CHECKING:
    from pool.turns import Turns


# What an agent may emit. The other events are the pool's to tell.
_EMITTED = (TextDelta, ReasoningDelta, ToolCalled, ToolReturned, UsageReported, ModelDecided)
_is_call_id = re.compile(CALL_ID_PATTERN).match


class TurnContext(Struct, eq=False):
    """What an agent may do in its turn. It ends with the turn."""

    _turn: LiveTurn
    _turns: Turns
    _spec: AgentSpec
    _gate: Gate
    _config: PoolConfig
    _format: str
    _observers: Observers
    # what the turn has used before, and its agent does not know of
    _before: Usage

    @property
    def max_steps(self) -> int:
        """How many steps (calls of a model) the agent may take."""
        return self._spec.max_steps

    @property
    def max_tokens(self) -> int | None:
        """How many tokens an answer may have, if there is a limit."""
        own, grant = self._spec.max_tokens, self._turn.grant
        granted = None if grant is None else grant.max_tokens
        if own is None or granted is None:
            return own or granted
        return min(own, granted)

    @property
    def agent(self) -> str:
        """The name under which the agent is registered."""
        return self._turn.record.agent

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self._turn.record.session_id

    @property
    def turn_id(self) -> str:
        """The turn's id."""
        return self._turn.record.id

    @property
    def attempt(self) -> int:
        """1, and one more for each time that the turn had to begin again."""
        return self._turn.record.attempt

    @property
    def principal(self) -> Principal:
        """Who asked."""
        return self._turn.principal

    @property
    def request(self) -> TurnRequest:
        """What was asked for."""
        return self._turn.record.request

    @property
    def model(self) -> str | None:
        """The model to use instead of the agent's own, if a budget says so."""
        grant = self._turn.grant
        return None if grant is None else grant.model

    @property
    def deadline(self) -> float:
        """When the turn expires, on `clock()`."""
        return self._turn.deadline

    def clock(self) -> float:
        """The pool's monotonic clock, in seconds."""
        return self._turns.clock()

    async def emit(self, event: Event) -> None:
        """Tell the turn's readers; `LimitExceeded` past the size that a turn may have."""
        turn = self._turn
        if not turn.at_work:
            raise self._past()
        if type(event) is TextDelta:
            self._said(turn, event)
        else:
            self._note(turn, event)
        await self._log(event)

    async def gate(self, call: ToolCall) -> Decision:
        """Whether the tool may be called; a human's decision about this very call comes first."""
        if not self._turn.at_work:
            raise self._past()
        self._turn.gated = True
        decided = self._decided(call)
        if decided is not None:
            # used up in the store as well, before it is used: should the process end now it is
            # asked for again
            writer = self._turns.writer
            await writer.insist(lambda: writer.flush(self._turn.session, self._turn))
            return self._told(call, decided, "human")
        answer = self._gate(self._turn.principal, call)
        decision = answer if isinstance(answer, Decision) else await answer
        if not self._turn.at_work:
            raise self._past()
        if decision.action == "ask":
            await self._ask(call, decision)
        return self._told(call, decision, "gate")

    async def checkpoint(self, state: bytes) -> None:
        """A safe point: should the actor crash, the turn goes on from here."""
        if not self._turn.at_work:
            raise self._past()
        if not isinstance(state, bytes):
            raise AgentFailed(f"the agent's state is {type(state).__name__}; it must be bytes")
        self._turns.check_state(state)
        change = StateChange(self._format, state)
        await self._turns.writer.keep(self._turn.session, self._turn, change)

    def idempotency_key(self, call: ToolCall) -> str:
        """The same 32 characters whenever this turn makes this call, in whichever attempt."""
        body = (self.turn_id, call.name, call.call_id, call.arguments)
        encoded = msgspec.json.encode(body, order="deterministic")
        return blake2b(encoded, digest_size=16).hexdigest()

    def conceal(self, value: Any) -> Any:
        """The value itself: this turn has no veil."""
        return value

    def reveal(self, value: Any) -> Any:
        """The value itself: this turn has no veil."""
        return value

    def _told(self, call: ToolCall, decision: Decision, by: Literal["human", "gate"]) -> Decision:
        if self._observers:
            turn = self._turn
            self._observers.notice(
                ToolDecidedNotice(
                    self.agent, turn.id, turn.principal, turn.request_id, call, decision, by
                )
            )
        return decision

    def _past(self) -> Conflict:
        # An agent that was left behind may still run: what it does is no longer the turn's.
        return Conflict(f"turn {self._turn.id} no longer runs; its agent may do nothing more in it")

    async def _log(self, event: Event) -> None:
        turn = self._turn
        turn.events += 1
        if turn.events > self._config.max_events:
            raise LimitExceeded(
                f"the answer has more than {self._config.max_events} events, the most there may be"
            )
        if event.seq:
            # it is in a log already, under the place it got there: this one is a copy
            event = replace(event)
        self._turns.tell(turn, event)
        unstored = turn.session.log.unstored
        # while the store cannot be reached they become many: no try for each of them
        if unstored >= self._config.flush_events and unstored % self._config.flush_events == 0:
            await self._turns.writer.catch_up(turn.session)

    def _said(self, turn: LiveTurn, event: TextDelta) -> None:
        text: object = event.text
        if not isinstance(text, str):
            raise AgentFailed(f"the text of a delta is {type(text).__name__}; it must be text")
        if not turn.texts:
            turn.first_text_at = self._turns.clock()
        event.text, size = writable(text)
        self._weigh(turn, size)
        turn.texts.append(event.text)

    def _note(self, turn: LiveTurn, event: Event) -> None:
        if not isinstance(event, _EMITTED):
            raise AgentFailed(f"an agent may not emit {type(event).__name__}; the pool does that")
        event.at = self._turns.wall()
        if isinstance(event, UsageReported):
            # also of a turn that has grown too large: it is spent
            turn.reported = replace(reported(event.usage))
            usage = total(self._before, turn.reported)
            event.usage = replace(usage, tool_calls=turn.record.usage.tool_calls)
            turn.record.usage = event.usage
            self._turns.billing.check(turn, event.usage)
        self._weigh(turn, _size(event))
        if isinstance(event, ToolCalled):
            # made anew: an event told before holds the usage as it was then
            usage = turn.record.usage
            turn.record.usage = replace(usage, tool_calls=usage.tool_calls + 1)
        elif isinstance(event, ModelDecided) and self._observers:
            self._observers.notice(
                ModelDecidedNotice(self.agent, turn.id, event.step, event.model, event.reason)
            )

    def _weigh(self, turn: LiveTurn, size: int) -> None:
        turn.bytes += size
        if turn.bytes > self._config.max_output_bytes:
            raise LimitExceeded(
                f"the answer is longer than {self._config.max_output_bytes} bytes, "
                "the most it may be"
            )

    def _decided(self, call: ToolCall) -> Decision | None:
        record = self._turn.record
        for decided in record.decided:
            shown = decided.call
            # Approved was what was shown; anything else is a new question.
            named = (shown.call_id, shown.name) == (call.call_id, call.name)
            if named and same_arguments(shown.arguments, call.arguments):
                record.decided = tuple(d for d in record.decided if d is not decided)
                if decided.decision == "approve":
                    return Decision("allow", decided.reason, shown.risk)
                return Decision("deny", decided.reason or "a human said no", shown.risk)
        return None

    async def _ask(self, call: ToolCall, decision: Decision) -> None:
        if _is_call_id(call.call_id) is None:
            raise AgentFailed(
                "a call's id must be 1 to 256 visible ASCII characters, for a human to decide by it"
            )
        turn = self._turn
        lifetime_s = min(self._config.approval_ttl_s, turn.deadline - self._turns.clock())
        pending = PendingCall(
            call_id=call.call_id,
            name=call.name,
            arguments=call.arguments,
            risk=decision.risk,
            expires_at=self._turns.wall() + lifetime_s,
            asked=turn.session.log.seq + 1,
            deciders=decision.deciders,
        )
        event = ApprovalRequested(
            call_id=call.call_id,
            name=call.name,
            arguments=call.arguments,
            risk=decision.risk,
            expires_at=pending.expires_at,
            at=self._turns.wall(),
        )
        self._weigh(turn, _size(event))
        others = tuple(p for p in turn.record.pending if p.call_id != call.call_id)
        turn.record.pending = (*others, pending)
        await self._log(event)


def _size(event: Event) -> int:
    try:
        return len(msgspec.json.encode(event))
    except (TypeError, ValueError, RecursionError) as error:
        raise AgentFailed(
            f"{type(event).__name__} cannot be written as JSON ({type(error).__name__}); "
            "arguments and results of tools must be plain data"
        ) from error
