"""How sessions, turns and dead letters are shown: as rows, in full, and as JSON.

JSON is what the protocol has, with the tenant (and the user) added. It is ASCII, and in text what
is unseen is made seen: nothing that somebody said may steer a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from pool.events import Event
from pool.turn import Message, Turn
from protocol import encode
from protocol.command.records import SessionOf
from protocol.command.screen import harmless, visible
from protocol.command.table import moment

T = TypeVar("T")
Object = dict[str, Any]


class View(NamedTuple, Generic[T]):
    """How one kind of thing is listed: the columns, a row of it, and its JSON object."""

    head: Sequence[str]
    row: Callable[[T], Sequence[str]]
    plain: Callable[[T], Object]


def session_object(session: SessionOf) -> Object:
    """A session as the protocol has it, with its tenant."""
    return {"tenant": session.tenant, **_decoded(encode.session(session.info))}


def turn_object(turn: Turn) -> Object:
    """A turn as the protocol has it, with its tenant and user."""
    return {"tenant": turn.tenant, "user": turn.user, **_decoded(encode.turn(turn))}


def message_object(message: Message) -> Object:
    """An entry of a transcript as the protocol has it."""
    return _decoded(encode.message(message))


def event_object(event: Event) -> Object:
    """An event as the protocol has it."""
    return _decoded(encode.event(event))


def as_json(plain: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(plain)


def as_text(plain: Mapping[str, Any]) -> Iterator[str]:
    """An object in full: a line for each field, then the texts that may have many."""
    texts = {name: plain[name] for name in ("input", "output") if plain.get(name)}
    fields = {
        name: value
        for name, value in plain.items()
        if name not in ("input", "output") and value not in (None, [], {})
    }
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        said = value if isinstance(value, str) else json.dumps(value)
        yield f"{name:{width}}  {visible(said)}"
    for name, text in texts.items():
        yield f"{name}:"
        yield from indented(text)


def indented(text: str) -> Iterator[str]:
    """The lines of a text, as they may be shown."""
    for line in harmless(text).split("\n"):
        yield f"  {line}"


def transcript(messages: Iterable[Message]) -> Iterator[str]:
    """Who said what, in order."""
    for message in messages:
        yield f"{moment(message.created_at)} {message.role} ({message.turn_id}):"
        yield from indented(message.content)


def log(events: Iterable[Event]) -> Iterator[str]:
    """A line for each event: its cursor, its type, and what else it says."""
    for event in events:
        plain = event_object(event)
        rest = {name: value for name, value in plain.items() if name not in _SAID_ONCE}
        yield f"{event.cursor} {event.type} {json.dumps(rest)}"


def _decoded(data: bytes) -> Object:
    found: Object = msgspec.json.decode(data)
    return found


def _session_row(session: SessionOf) -> Sequence[str]:
    info = session.info
    updated = moment(info.updated_at)
    return (session.tenant, info.id, info.agent or "-", str(info.turns), updated)


def _turn_row(turn: Turn) -> Sequence[str]:
    error = turn.error.code if turn.error is not None else "-"
    created, ran = moment(turn.created_at), f"{turn.run_s:.1f} s"
    return (turn.id, turn.state, turn.agent, str(turn.attempt), created, ran, error)


def _dead_letter_row(turn: Turn) -> Sequence[str]:
    attempts, ended = str(turn.attempt), moment(turn.finished_at)
    return (turn.id, turn.tenant, turn.session_id, turn.agent, attempts, ended)


# What stands before the object of an event, or is the same for all of them.
_SAID_ONCE: Final = ("id", "type", "turn_id", "session_id")

SESSIONS: Final = View(
    ("TENANT", "SESSION", "AGENT", "TURNS", "UPDATED"), _session_row, session_object
)
TURNS: Final = View(
    ("TURN", "STATE", "AGENT", "ATTEMPT", "CREATED", "RAN", "ERROR"), _turn_row, turn_object
)
DEAD_LETTERS: Final = View(
    ("TURN", "TENANT", "SESSION", "AGENT", "ATTEMPT", "ENDED"), _dead_letter_row, turn_object
)
