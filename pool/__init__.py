"""actorpool's engine: a supervised pool of agent actors, embeddable, without a server.

async with AgentPool(agent) as pool:
    turn = await pool.ask("hi", session="s1")
"""

from pool.agent import (
    ALLOW,
    Agent,
    Approval,
    Context,
    Decision,
    Gate,
    ToolCall,
    TurnEnd,
    TurnInput,
)
from pool.config import AgentSpec, PoolConfig
from pool.events import Cursor, Event, TextDelta
from pool.pool import AgentPool
from pool.turn import ANYONE, Principal, Turn, TurnRequest, Usage

__all__ = [
    "ALLOW",
    "ANYONE",
    "Agent",
    "AgentPool",
    "AgentSpec",
    "Approval",
    "Context",
    "Cursor",
    "Decision",
    "Event",
    "Gate",
    "PoolConfig",
    "Principal",
    "TextDelta",
    "ToolCall",
    "Turn",
    "TurnEnd",
    "TurnInput",
    "TurnRequest",
    "Usage",
]
