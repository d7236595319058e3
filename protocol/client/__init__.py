"""The async client.

async with Client("http://127.0.0.1:8080", api_key=key) as client:
    turn = await client.ask("hi", session="s1")
    async with client.chat() as chat: ...
"""

from protocol.client.chat import Chat
from protocol.client.client import Client
from protocol.client.errors import (
    ClientError,
    ClosedByServer,
    ConnectionLost,
    ProblemError,
    ProtocolViolation,
)
from protocol.client.events import ClientEvent
from protocol.client.models import ClientMessage, ClientSession, ClientTurn

__all__ = [
    "Chat",
    "Client",
    "ClientError",
    "ClientEvent",
    "ClientMessage",
    "ClientSession",
    "ClientTurn",
    "ClosedByServer",
    "ConnectionLost",
    "ProblemError",
    "ProtocolViolation",
]
