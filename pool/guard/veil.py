"""The veil between an agent and what its turn is about: placeholders behind it, values before it.

Placeholders are for one agent in one session. They are kept with the agent's state (see
`pool.guard.sealing`), as it is the state that holds them: so they are there in the next turn, after
a pause, and in another process. New ones are numbered from a place that differs from turn to turn:
one that was lost with its turn does not come back as another value.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

from msgspec.structs import replace

from pool.agent import Approval, Decision, ToolCall, TurnEnd, TurnInput
from pool.errors import AgentFailed
from pool.events import Event, ReasoningDelta, TextDelta, ToolCalled, ToolReturned
from pool.guard.redact import Redactor
from pool.guard.redact_placeholders import MOST, Placeholders, RestoringStream
from pool.guard.sealing import seal, unseal
from pool.turn import Message

# Numbers of placeholders have six digits.
_FIRST: Final = 100_000
_FIRST_MAX: Final = 1_000_000 - 2 * MOST


class Veil:
    """For one attempt of one turn. `redactor`: what is found goes behind the veil; `state`: what
    the agent keeps of the session, sealed; `salt`: differs from attempt to attempt.
    `AgentFailed` if the state cannot be opened.
    """

    def __init__(self, redactor: Redactor, state: bytes | None, *, salt: str) -> None:
        self._redactor = redactor
        known, self.state = _opened(state)
        self._placeholders = Placeholders(known, first=_first(salt))
        self._kept = len(known)
        self._stream = RestoringStream(self._placeholders)
        self._speaks: type[TextDelta | ReasoningDelta] = TextDelta

    def __repr__(self) -> str:
        return f"<Veil over {len(self._placeholders)} values>"

    def conceal(self, value: Any) -> Any:
        """A JSON value as the agent may see it; `TooLarge` if it is nested deeper than 100."""
        if isinstance(value, str):
            return self._redactor.redact(value, self._placeholders).text
        return self._redactor.redact_value(value, self._placeholders)

    def reveal(self, value: Any) -> Any:
        """A JSON value of the agent's as it is meant; `TooLarge` if nested deeper than 100."""
        return self._placeholders.restore_value(value)

    # --- what the agent is given

    def given(self, turn: TurnInput) -> TurnInput:
        """The turn as the agent sees it."""
        if turn.resume:
            # what it keeps is a checkpoint: the session's own state may know less
            self._kept = 0
        return replace(
            turn,
            input=self.conceal(turn.input),
            state=self.state,
            unseen=tuple(self._unseen(each) for each in turn.unseen),
            approvals=tuple(self._approval(each) for each in turn.approvals),
        )

    def decision(self, decision: Decision) -> Decision:
        """A decision about a call as the agent sees it: a human may have said why."""
        if not decision.reason:
            return decision
        return replace(decision, reason=self.conceal(decision.reason))

    def _unseen(self, message: Message) -> Message:
        return replace(message, content=self.conceal(message.content))

    def _approval(self, approval: Approval) -> Approval:
        by, reason = self.conceal(approval.by), self.conceal(approval.reason)
        return replace(approval, by=by, reason=reason)

    # --- what the agent gives

    def call(self, call: ToolCall) -> ToolCall:
        """A call as the gate, the humans and the tool see it."""
        return replace(call, arguments=self.reveal(call.arguments))

    def events(self, event: Event) -> Iterator[Event]:
        """An event as readers see it. What may be the beginning of a placeholder is said with what
        follows, or before a tool is called.
        """
        kind = type(event)
        if isinstance(event, TextDelta | ReasoningDelta) and isinstance(event.text, str):
            if kind is not self._speaks:
                yield from self.held()
                self._speaks = type(event)
            text = self._stream.feed(event.text)
            if text:
                yield self._speaks(text)
        elif isinstance(event, ToolCalled):
            yield from self.held()
            yield replace(event, arguments=self.reveal(event.arguments))
        elif isinstance(event, ToolReturned):
            yield replace(event, result=self.reveal(event.result))
        else:
            yield event

    def held(self) -> Iterator[Event]:
        """What was held back, now that no more of it comes."""
        text = self._stream.end()
        if text:
            yield self._speaks(text)

    def end(self, end: TurnEnd) -> TurnEnd:
        """How the turn ended, with the output as it is meant, and the state sealed."""
        output = self.reveal(end.output)
        if isinstance(end.state, bytes):
            return replace(end, output=output, state=self.sealed(end.state))
        if isinstance(end.append, bytes):
            return replace(end, output=output, append=seal(self._new(), end.append))
        return replace(end, output=output)

    def sealed(self, state: bytes) -> bytes:
        """A whole state, with all that it may speak of."""
        return seal(self._placeholders.known, state)

    def _new(self) -> dict[str, str]:
        known = list(self._placeholders.known.items())
        return dict(known[self._kept :])


def _opened(state: bytes | None) -> tuple[dict[str, str], bytes | None]:
    if state is None:
        return {}, None
    try:
        return unseal(state)
    except ValueError:
        raise AgentFailed(
            "the session's state is damaged; go on in a fork of the session, "
            "which starts from the transcript"
        ) from None


def _first(salt: str) -> int:
    number = int.from_bytes(blake2b(salt.encode(), digest_size=8).digest())
    return _FIRST + number % (_FIRST_MAX - _FIRST)
