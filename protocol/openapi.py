"""The OpenAPI 3.1 document, made from the routes and the structs that they name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from pool.turn import CallId, Id
from protocol.http.reply import JSON, PROBLEM
from protocol.preferences import EVENT_STREAM
from protocol.problems import STATUS, Problem
from protocol.route import Route, Said

VERSION: Final = "1"

Object = dict[str, Any]

# What any request may get; those with a body also the second ones.
_ANY: Final = ("invalid_request", "internal", "overloaded")
_WITH_CALLER: Final = ("unauthenticated", "forbidden", "rate_limited")
_WITH_BODY: Final = ("too_large", "unsupported_media_type")

# Headers of any answer; of those to what counts as a request.
_ALWAYS: Final = ("X-Request-ID",)
_RATES: Final = ("RateLimit", "RateLimit-Policy")
# Problems that may say when to come again.
_RETRIED: Final = frozenset({402, 429, 503})

_REQUEST_HEADERS: Final[dict[str, Object]] = {
    "Idempotency-Key": {
        "description": "The same key and body give the same turn again, never a second run.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
    },
    "Prefer": {
        "description": "RFC 7240: `respond-async`, or `wait=N` for N seconds at most.",
        "schema": {"type": "string"},
    },
    "Last-Event-ID": {
        "description": "The id of the last event that was read; goes before `after`.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,19}-[0-9]{1,19}$"},
    },
}

_RESPONSE_HEADERS: Final[dict[str, Object]] = {
    "X-Request-ID": {
        "description": "The caller's, or its trace's, if well formed; finds it in the logs.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where to read it again.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds, rounded up and jittered.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimit": {
        "description": "How the caller's limits stand (draft-ietf-httpapi-ratelimit-headers-10).",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The caller's limits, if there are any.",
        "schema": {"type": "string"},
    },
    "Allow": {"description": "The methods of this path.", "schema": {"type": "string"}},
}


def document(routes: Iterable[Route]) -> Object:
    """The document as plain objects."""
    routes = tuple(routes)
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: Object = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "actorpool",
            "version": VERSION,
            "description": "Agents behind HTTP: sessions, turns and their events.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _types(routes: Sequence[Route]) -> list[Any]:
    """Every type that a body has, each once."""
    found: list[Any] = [Problem, Id, CallId]
    for route in routes:
        found.append(route.body)
        for said in route.answers.values():
            found += [said.body, *said.also.values()]
    unique = {repr(kind): kind for kind in found if kind is not None}
    return list(unique.values())


def _operation(route: Route, schema_of: Object) -> Object:
    operation: Object = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route, schema_of),
        "responses": _responses(route, schema_of),
    }
    if route.body is not None:
        operation["requestBody"] = {
            "description": "May be compressed once: `Content-Encoding` gzip or deflate.",
            "required": route.body_required,
            "content": {JSON: {"schema": schema_of[repr(route.body)]}},
        }
    return operation


def _parameters(route: Route, schema_of: Object) -> list[Object]:
    names = [part.strip("{}") for part in route.path.split("/") if part.startswith("{")]
    found: list[Object] = [
        {"name": name, "in": "path", "required": True, "schema": schema_of[repr(_id_kind(name))]}
        for name in names
    ]
    if route.query is not None:
        found += _query_parameters(route.query)
    found += [{"name": name, "in": "header", **_REQUEST_HEADERS[name]} for name in route.headers]
    return found


def _id_kind(name: str) -> Any:
    return CallId if name == "call_id" else Id


def _query_parameters(kind: Any) -> list[Object]:
    schema = next(iter(msgspec.json.schema(kind)["$defs"].values()))
    return [
        {"name": name, "in": "query", "required": False, "schema": _in_query(name, field)}
        for name, field in schema["properties"].items()
    ]


def _in_query(name: str, schema: Object) -> Object:
    """A query knows no null: what may be null may be absent."""
    if "anyOf" not in schema:
        return schema
    kinds = [kind for kind in schema["anyOf"] if kind != {"type": "null"}]
    if name == "after":
        return _REQUEST_HEADERS["Last-Event-ID"]["schema"]  # type: ignore[no-any-return]
    return dict(kinds[0])


def _responses(route: Route, schema_of: Object) -> Object:
    answers = dict(route.answers)
    for status in sorted(_problem_statuses(route) - answers.keys()):
        headers = ("Retry-After",) if status in _RETRIED else ()
        answers[status] = Said(HTTPStatus(status).phrase, Problem, PROBLEM, headers)
    more = _ALWAYS + (_RATES if route.counts else ())
    return {
        str(status): _response(said, more, schema_of) for status, said in sorted(answers.items())
    }


def _response(said: Said, more: tuple[str, ...], schema_of: Object) -> Object:
    names = (*more, *said.headers)
    response: Object = {
        "description": said.description,
        "headers": {name: _RESPONSE_HEADERS[name] for name in names},
    }
    bodies = {said.content_type: said.body} if said.body is not None else {}
    contents = {**bodies, **said.also}
    if contents:
        response["content"] = {
            kind: {"schema": _framed(kind, schema_of[repr(body)])}
            for kind, body in contents.items()
        }
    return response


def _framed(content_type: str, schema: Object) -> Object:
    """A stream is described by one of its events, whose data is JSON."""
    if content_type != EVENT_STREAM:
        return schema
    data = {"type": "string", "contentMediaType": JSON, "contentSchema": schema}
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {"id": text, "event": text, "data": data},
        "required": ["data"],
    }


def _problem_statuses(route: Route) -> set[int]:
    codes = [*_ANY, *route.problems]
    if not route.public:
        codes += _WITH_CALLER
    statuses = {STATUS[code] for code in codes}
    if route.body is not None:
        statuses |= {408, *(STATUS[code] for code in _WITH_BODY)}
    return statuses
