"""Everything of a server that reads what a caller wrote, found from the server's own tables: a new
route, query or command is attacked without anybody thinking of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from pool.turn import ID_PATTERN
from protocol.route import Route
from protocol.routes import ROUTES
from protocol.ws.commands import AnyCommand

# Ids of nothing, for the places of ids in paths.
IDS: Final[Mapping[str, str]] = {
    "{session_id}": "s",
    "{turn_id}": "none",
    "{task_id}": "none",
    "{call_id}": "c",
    "{agent}": "agent",
    "{budget}": "budget",
}
# What a field must have at least, by its name, so that the rest of it can be wrong.
_SAMPLES: Final[Mapping[str, Any]] = {
    "input": "x",
    "message": "x",
    "decision": "deny",
    "max": 3,
    "tokens": 3,
    "session_id": "s",
    "turn_id": "none",
    "call_id": "c",
    "cursor": "0-0",
}
# Ids that others make: models those of calls, issuers of tokens those of users.
_FOREIGN: Final = frozenset({"call_id", "user_id"})
# Bodies of which no field is required alone, but one of several is.
_ONE_OF: Final[Mapping[str, str]] = {
    "RunRequest": "message",
    "ResizeRequest": "max",
    "BudgetRequest": "tokens",
}


class Surface(NamedTuple):
    """A struct that callers fill in: `name` says where, `good` is the least that is taken there,
    `bounds` what each field's type says of its values.
    """

    name: str
    fields: Mapping[str, Any]
    good: Mapping[str, Any]
    bounds: Mapping[str, Sequence[Meta]]

    @property
    def ids(self) -> Sequence[str]:
        """The fields that are ids, by what they are called or by their type."""
        return [
            name
            for name, bounds in self.bounds.items()
            if (name.endswith("_id") and name not in _FOREIGN)
            or ID_PATTERN in [bound.pattern for bound in bounds]
        ]


class Place(NamedTuple):
    """A route with its path filled in, and what it takes."""

    method: str
    path: str
    surface: Surface


def bodies() -> Sequence[Place]:
    """Every route that takes a body."""
    return [_place(route, route.body) for route in ROUTES if route.body is not None]


def queries() -> Sequence[Place]:
    """Every route that takes a query."""
    return [_place(route, route.query) for route in ROUTES if route.query is not None]


def commands() -> Sequence[Surface]:
    """Every command of a WebSocket, by its type."""
    return [_surface(str(kind.__struct_config__.tag), kind) for kind in get_args(AnyCommand)]


def filled(path: str) -> str:
    """A route's path with ids of nothing."""
    return re.sub(r"\{\w+\}", lambda place: IDS[place[0]], path)


def wrapped(hint: Any, value: bytes) -> bytes:
    """A piece of JSON as a field of this type may hold it: inside, where an object may be."""
    inner = {hint, *get_args(hint)}
    if any(get_origin(each) is dict for each in inner):
        return b'{"a":%b}' % value
    return value


def written(good: Mapping[str, Any], field: str, value: bytes) -> bytes:
    """JSON of a good object in which one field has this value, as it is."""
    others = {name: each for name, each in good.items() if name != field}
    pairs = [
        b"%b:%b" % (msgspec.json.encode(name), msgspec.json.encode(each))
        for name, each in others.items()
    ]
    return b"{" + b",".join([*pairs, b"%b:%b" % (msgspec.json.encode(field), value)]) + b"}"


def _place(route: Route, kind: Any) -> Place:
    path = filled(route.path)
    return Place(route.method, path, _surface(f"{route.method} {route.path}", kind))


def _surface(name: str, kind: Any) -> Surface:
    # a body may be annotated for the document
    struct = kind if isinstance(kind, type) else get_args(kind)[0]
    needed = [each.encode_name for each in msgspec.structs.fields(struct) if each.required]
    if struct.__name__ in _ONE_OF:
        needed.append(_ONE_OF[struct.__name__])
    hints = get_type_hints(struct)
    fields = {each.encode_name: hints[each.name] for each in msgspec.structs.fields(struct)}
    exact = get_type_hints(struct, include_extras=True)
    bounds = {
        each.encode_name: _bounds(exact[each.name]) for each in msgspec.structs.fields(struct)
    }
    return Surface(name, fields, {each: _SAMPLES[each] for each in needed}, bounds)


def _bounds(hint: Any) -> Sequence[Meta]:
    own = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Meta)]
    return [*own, *(bound for inner in get_args(hint) for bound in _bounds(inner))]
