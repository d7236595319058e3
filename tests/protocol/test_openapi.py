"""The OpenAPI document says what the server does: checked by the document, and by Schemathesis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import msgspec
import pytest
import schemathesis
import uvloop
from hypothesis import HealthCheck, assume, settings

from pool import AgentPool
from pool.turn import TurnRequest
from protocol import openapi
from protocol.config import ServerConfig
from protocol.routes import ROUTES
from protocol.server import Server
from tests.support.serving import echo

DOCUMENT = openapi.document(ROUTES)


def test_the_document_has_exactly_the_routes_served() -> None:
    """None more, none less."""
    described = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    assert described == {(route.method, route.path) for route in ROUTES}


def test_operations_are_named_apart() -> None:
    """An operation's name is its alone."""
    names = [route.name for route in ROUTES]
    assert len(set(names)) == len(names)


def test_every_reference_leads_somewhere() -> None:
    """No schema is named that is not there."""
    text = msgspec.json.encode(DOCUMENT).decode()
    known = DOCUMENT["components"]["schemas"]
    for part in text.split('"$ref":"')[1:]:
        assert part.partition('"')[0].removeprefix("#/components/schemas/") in known


def test_every_route_describes_its_problems() -> None:
    """What any request may get, and what only a body can cause."""
    for route in ROUTES:
        responses = DOCUMENT["paths"][route.path][route.method.lower()]["responses"]
        assert {"400", "500", "503"} <= set(responses)
        if route.body is not None:
            assert {"408", "413", "415"} <= set(responses)
        if not route.public:
            assert {"401", "403", "429"} <= set(responses)
        if "{" in route.path and route.problems:
            assert "404" in responses


def test_unknown_fields_are_refused_by_the_document_too() -> None:
    """What the server refuses, a generated client does not send."""
    schemas = DOCUMENT["components"]["schemas"]
    for route in ROUTES:
        if route.body is not None:
            name = getattr(route.body, "__origin__", route.body).__name__
            assert schemas[name]["additionalProperties"] is False
    assert schemas[TurnRequest.__name__]["required"] == ["input"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server in a thread of its own, as Schemathesis is synchronous; its URL."""
    ready: list[str] = []
    begun, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with AgentPool(echo) as pool:
            server = Server(pool, config=ServerConfig(port=0))
            await server.start()
            ready.append(server.url)
            begun.set()
            await asyncio.to_thread(over.wait)
            await server.close()

    thread = threading.Thread(target=uvloop.run, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(10)
        yield ready[0]
    finally:
        over.set()
        thread.join()


# A stream without an end, and a handshake, are no request and answer.
ENDLESS = ("/v1/sessions/{session_id}/events", "/v1/ws")
# Valid only if the server gave it, or nobody used it before, or together: no schema can say that.
GIVEN = ("cursor", "after", "Last-Event-ID", "Idempotency-Key", "from", "to")


def _tested(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what cannot be guessed from it."""
    document = deepcopy(document)
    for path in ENDLESS:
        del document["paths"][path]
    for operations in document["paths"].values():
        for operation in operations.values():
            kept = [found for found in operation["parameters"] if found["name"] not in GIVEN]
            operation["parameters"] = kept
    asked = document["components"]["schemas"]["TurnRequest"]["properties"]
    # not every server sends webhooks, and a turn that expires is a 504 as it should be
    del asked["webhook"], asked["deadline_s"]
    return document


def _has_whole_float(body: object) -> bool:
    """To JSON Schema 1.0 is an integer; here it is none."""
    values = body.values() if isinstance(body, dict) else ()
    return any(isinstance(value, float) and value.is_integer() for value in values)


schema = schemathesis.openapi.from_dict(_tested(DOCUMENT))


@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_described(case: schemathesis.Case[Any], url: str) -> None:
    """Valid and broken requests: status, headers, media type and schema of each answer fit."""
    assume(case.method != "PATCH" or not _has_whole_float(case.body))
    case.call_and_validate(base_url=url, timeout=10)
