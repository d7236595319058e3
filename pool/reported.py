"""What agents report of what they used: users write them, so it may be anything."""

from __future__ import annotations

from math import isfinite
from typing import Any

from pool.errors import AgentFailed
from pool.turn import Usage

_COUNTS = ("input_tokens", "output_tokens", "requests", "tool_calls")


def reported(usage: Any) -> Usage:
    """What an agent says that it used; `AgentFailed` if that can be no usage."""
    if type(usage) is not Usage:
        raise AgentFailed(f"the agent's usage is {type(usage).__name__}; it must be a Usage")
    for name in _COUNTS:
        count = getattr(usage, name)
        if type(count) is not int:
            raise AgentFailed(f"usage.{name} is {type(count).__name__}; it must be a whole number")
    cost: object = usage.cost_usd
    if cost is not None and not (isinstance(cost, float | int) and isfinite(cost)):
        raise AgentFailed("usage.cost_usd must be a number of US dollars, or None if not known")
    if type(usage.models) is not tuple or not all(isinstance(each, str) for each in usage.models):
        raise AgentFailed("usage.models must be a tuple of the names of models")
    return usage


def unknown_to(reported: Usage | None, usage: Usage) -> Usage:
    """What a turn has used besides what its agent has reported, and will report again."""
    if reported is None:
        return usage
    known = reported.cost_usd is not None and usage.cost_usd is not None
    return Usage(
        input_tokens=usage.input_tokens - reported.input_tokens,
        output_tokens=usage.output_tokens - reported.output_tokens,
        requests=usage.requests - reported.requests,
        cost_usd=(usage.cost_usd or 0.0) - (reported.cost_usd or 0.0) if known else None,
        models=usage.models,
    )


def total(before: Usage, usage: Usage) -> Usage:
    """What was used before, and by now."""
    tokens = before.input_tokens or before.output_tokens
    if not (before.requests or tokens or before.cost_usd):
        return usage
    known = before.cost_usd is not None and usage.cost_usd is not None
    return Usage(
        input_tokens=before.input_tokens + usage.input_tokens,
        output_tokens=before.output_tokens + usage.output_tokens,
        requests=before.requests + usage.requests,
        cost_usd=(before.cost_usd or 0.0) + (usage.cost_usd or 0.0) if known else None,
        models=tuple(dict.fromkeys((*before.models, *usage.models))),
    )
