"""What the requests of a turn to models used: as providers say, or about as much as was heard."""

from __future__ import annotations

from pool.agents.conversation import BYTES_PER_TOKEN, Conversation
from pool.agents.model import Answer, Hearing


def count_answer(talk: Conversation, answer: Answer) -> None:
    """An answer used what its provider says."""
    usage = talk.usage
    # of costs that are not all known nobody knows the sum
    before = usage.cost_usd if usage.requests else 0.0
    known = before is not None and answer.cost_usd is not None
    usage.cost_usd = (before or 0.0) + (answer.cost_usd or 0.0) if known else None
    usage.requests += 1
    usage.input_tokens += answer.input_tokens
    usage.output_tokens += answer.output_tokens
    if answer.model and answer.model not in usage.models:
        usage.models = (*usage.models, answer.model)


def count_unanswered(talk: Conversation, model: str, heard: Hearing) -> None:
    """A request that was sent, and not answered to the end, used about what had to be read for it
    and what was heard: its provider charges for it, and says how much only at the end. One that was
    refused used nothing.
    """
    usage = talk.usage
    talk.unanswered += 1
    usage.requests += 1
    if heard.refused:
        if usage.requests == 1:
            usage.cost_usd = 0.0
        return
    usage.cost_usd = None
    usage.input_tokens += talk.tokens
    usage.output_tokens += (heard.chars + heard.unsaid) // BYTES_PER_TOKEN + 1
    if model not in usage.models:
        usage.models = (*usage.models, model)
