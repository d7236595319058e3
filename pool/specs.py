"""From what a user calls agents to named specifications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pool.config import AgentSpec
from pool.errors import ConfigError, InvalidRequest
from pool.ids import check_id


def specs_of(agents: Any) -> dict[str, AgentSpec]:
    """One agent, or a mapping of names to agents; each may be an `AgentSpec`.

    One agent alone is called as its function or class is. `ConfigError` if there is none, or a name
    is not an id.
    """
    if not isinstance(agents, Mapping):
        spec = _spec(agents)
        return {_name(spec.agent): spec}
    if not agents:
        raise ConfigError("agents", {}, "name at least one agent")
    for name in agents:
        try:
            check_id(name, "name")
        except InvalidRequest as error:
            raise ConfigError("agents", name, error.detail) from None
    return {name: _spec(agent) for name, agent in agents.items()}


def _spec(agent: Any) -> AgentSpec:
    return agent if isinstance(agent, AgentSpec) else AgentSpec(agent=agent)


def _name(agent: Any) -> str:
    name = getattr(agent, "__name__", None) or type(agent).__name__
    try:
        return check_id(name, "name")
    except InvalidRequest:
        # a lambda, say
        return "agent"
