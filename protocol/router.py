"""Finds the route of a request: dictionary lookups on the parts of its path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from pool.errors import NotFound
from protocol.decode import identifier
from protocol.problems import MethodNotAllowed
from protocol.route import Route

# How many paths are remembered, and of what length at most: about a megabyte, whoever asks.
_KNOWN_MAX: Final = 2_000
_KNOWN_CHARS: Final = 200


class Entry(Struct, frozen=True):
    """A route, ready to serve: the decoder of its body and the names of the ids in its path."""

    route: Route
    decoder: msgspec.json.Decoder[object] | None
    names: tuple[str, ...]


class _Node:
    """One part of a path: what may follow it, and the methods of the path that ends here."""

    __slots__ = ("following", "methods", "wildcard")

    def __init__(self) -> None:
        self.following: dict[str, _Node] = {}
        self.wildcard: _Node | None = None
        self.methods: dict[str, Entry] = {}


class Router:
    """All routes, as a tree of the parts of their paths. It remembers where the paths of late led:
    a session's are asked for again and again.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self._known: dict[tuple[str, str], tuple[Entry, Mapping[str, str]]] = {}
        for route in routes:
            self._add(route)

    def __repr__(self) -> str:
        return f"<Router [{len(self._known)} paths at hand]>"

    def find(self, method: str, path: str) -> tuple[Entry, Mapping[str, str]]:
        """The route and the ids in the path. `NotFound`, `MethodNotAllowed`; `InvalidRequest` for a
        malformed id."""
        known = self._known.get((method, path))
        if known is None:
            known = self._look_up(method, path)
            if len(path) <= _KNOWN_CHARS:
                if len(self._known) >= _KNOWN_MAX:
                    self._known.clear()
                self._known[method, path] = known
        return known

    def _look_up(self, method: str, path: str) -> tuple[Entry, Mapping[str, str]]:
        node = self._root
        values: list[str] = []
        for part in path.split("/"):
            known = node.following.get(part)
            if known is None:
                known = node.wildcard
                if known is None:
                    raise NotFound("there is nothing at this path")
                values.append(part)
            node = known
        if not node.methods:
            raise NotFound("there is nothing at this path")
        entry = node.methods.get(method)
        if entry is None:
            raise MethodNotAllowed(sorted(node.methods))
        params: dict[str, str] = {}
        for name, value in zip(entry.names, values, strict=True):
            params[name] = identifier(unquote(value) if "%" in value else value, name)
        return entry, params

    def _add(self, route: Route) -> None:
        node = self._root
        names: list[str] = []
        for part in route.path.split("/"):
            if part.startswith("{"):
                names.append(part.strip("{}"))
                node.wildcard = node = node.wildcard or _Node()
            else:
                node = node.following.setdefault(part, _Node())
        decoder = None if route.body is None else msgspec.json.Decoder(route.body)
        if route.method in node.methods:
            raise ValueError(f"{route.method} {route.path} is routed twice; leave one of them out")
        node.methods[route.method] = Entry(route, decoder, tuple(names))
