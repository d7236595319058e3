"""What makes two questions equal: the key under which an answer is kept. Pure."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from pool.agent import Agent, TurnInput
from pool.guard.answers_config import AnswerCache
from pool.turn import Turn

# Changed when what is kept, or what makes the key, changes.
_FORMAT: Final = "answers/1"
_TENANT_BYTES: Final = 8
_KEY_BYTES: Final = 24

_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode


@runtime_checkable
class AnswersAs(Protocol):
    """An agent that says what its answers depend on besides the conversation and the question: its
    model, its instructions, its tools and their options, as one text.

    Without it an agent is known by its name alone.
    """

    @property
    def answers_as(self) -> str:
        """The text; it is only compared."""


def key_of(
    cache: AnswerCache,
    agent: Agent,
    turn: Turn,
    given: TurnInput,
    *,
    state_format: str,
    model: str | None,
) -> str:
    """The key of a turn's question: digests of its tenant and of all that the answer depends on.

    `state_format`: in which the session's state is kept, which may be another than the agent's own.
    `model`: the one that a budget wants. The conversation so far is the agent's state, and what the
    transcript holds beyond it; for an agent that keeps no state there is none.
    """
    request = turn.request
    body: tuple[Any, ...] = (
        _FORMAT,
        turn.tenant,
        (turn.user, sorted(turn.roles)) if cache.per == "user" else None,
        turn.agent,
        state_format,
        agent.answers_as if isinstance(agent, AnswersAs) else "",
        cache.version,
        model,
        request.input,
        _metadata(cache, request.metadata),
        request.complexity,
        request.priority,
        None if given.state is None else blake2b(given.state).digest(),
        [(message.role, message.content) for message in given.unseen],
    )
    return f"{_digest(turn.tenant.encode(), _TENANT_BYTES)}:{_digest(_encode(body), _KEY_BYTES)}"


def _metadata(cache: AnswerCache, metadata: dict[str, Any]) -> dict[str, Any]:
    if cache.metadata is None:
        return metadata
    return {name: metadata[name] for name in cache.metadata if name in metadata}


def _digest(data: bytes, size: int) -> str:
    return blake2b(data, digest_size=size).hexdigest()
