"""Unknown fields are refused and everything has a limit that is reached here: checks 3 and 4; the
routes served are those of the document: check 7.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from msgspec import Struct, structs

from pool import AgentSpec, PoolConfig
from protocol.config import ServerConfig
from protocol.routes import ROUTES
from protocol.ws.config import WsConfig
from tests.security.surfaces import bodies, commands, filled
from tests.support.principals import guarded
from tests.support.serving import echo
from tests.support.serving_agents import Held
from tests.support.sockets import connected, talking

pytestmark = pytest.mark.real_time(20)


async def test_what_is_complete_is_not_refused_for_its_form():
    """The least of every body and command is taken: below it is what is added that is refused."""
    async with guarded(echo) as (peer, keys):
        admin = keys.of("acme", "admin")
        for place in bodies():
            response = await peer.request(
                place.method, place.path, json=place.surface.good, headers=admin
            )
            assert response.status != 400, place
        for command in commands():
            async with connected(peer, headers=admin) as talk:
                if command.name != "hello":
                    await talk.ask("hello")
                await talk.say(command.name, **command.good)
                await talk.say("ping")
                answer = await talk.hear()
                assert answer.get("error", {}).get("code") != "invalid_request", answer


async def test_unknown_fields_are_refused_everywhere():
    """Check 3: in every body, in what is inside of it, and in every query; the field is named."""
    async with guarded(echo) as (peer, keys):
        admin = keys.of("acme", "admin")
        for place in bodies():
            for inside, body in unknown(place.surface):
                response = await peer.request(place.method, place.path, json=body, headers=admin)
                told = (await response.json(content_type=None))["errors"]
                assert response.status == 400, place
                assert told == [{"field": inside, "message": "this field is not known"}], place
        for route in ROUTES:
            path = f"{filled(route.path)}?no_such=1"
            response = await peer.request(route.method, path, headers=admin)
            assert response.status == 400, route.path


async def test_unknown_fields_are_refused_in_every_command():
    """Check 3 on WebSockets: the command is answered with an error that names the field."""
    async with guarded(echo) as (peer, keys):
        headers = keys.of("acme")
        for command in commands():
            for inside, fields in unknown(command):
                async with connected(peer, headers=headers) as talk:
                    if command.name != "hello":
                        await talk.ask("hello")
                    answer = await talk.ask(command.name, ref="r", **fields)
                assert (answer["type"], answer["ref"]) == ("error", "r"), command
                assert [each["field"] for each in answer["error"]["errors"]] == [inside]


def unknown(surface):
    """Good objects with one field too many, and where it is."""
    yield "no_such_field", {**surface.good, "no_such_field": 1}
    for name, hint in surface.fields.items():
        for inner in (hint, *get_args(hint)):
            if isinstance(inner, type) and issubclass(inner, Struct):
                more = {field.encode_name: "x" for field in structs.fields(inner)}
                yield (
                    f"{name}.no_such_field",
                    {**surface.good, name: {**more, "no_such_field": 1}},
                )


async def test_the_routes_served_are_those_of_the_document():
    """Check 7: with every role each route of the document is there, and no other path or method."""
    async with guarded(echo) as (peer, keys):
        document = await (await peer.get("/openapi.json")).json()
        described = {
            (method.upper(), path)
            for path, operations in document["paths"].items()
            for method in operations
        }
        assert described == {(route.method, route.path) for route in peer.server.routes}
        admin = keys.of("acme", "admin")
        for path in document["paths"]:
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
                if (method, path) not in described:
                    response = await peer.request(method, filled(path), headers=admin)
                    assert response.status == 405, (method, path)
        for path in ("/", "/admin", "/v1", "/v1/", "/v1/agents/", "/debug", "/.env", "/v1/keys"):
            assert (await peer.get(path, headers=admin)).status == 404


async def test_every_limit_is_reached():
    """Check 4: a body, a page, a waiting time, a head, a frame, sessions, connections, turns."""
    held = Held()
    agents = AgentSpec(agent=held, max=1)
    config = ServerConfig(max_body_bytes=1_000, max_header_bytes=1_000, max_headers=20)
    ws = WsConfig(max_frame_bytes=500, max_sessions=1, max_connections_per_tenant=1)
    options: Any = {"config": config, "ws": ws, "pool": PoolConfig(queue_max=1)}
    async with guarded(agents, **options) as (peer, keys):
        acme = keys.of("acme")

        async def status(method, path, **more):
            response = await peer.request(method, path, **{"headers": acme, **more})
            return response.status

        turns = "/v1/sessions/s/turns"
        assert await status("POST", turns, json={"input": "x" * 1_000}) == 413
        assert await status("GET", "/v1/sessions?limit=1001") == 400
        assert await status("GET", "/v1/turns/t?wait_s=61") == 400
        assert await status("POST", turns, json={"input": "x", "deadline_s": 86_401}) == 400
        assert await status("GET", "/v1/sessions/" + "x" * 65) == 400
        assert await status("GET", "/health", headers={"X": "x" * 1_100}) == 400
        many = {f"X-{number}": "x" for number in range(30)}
        assert await status("GET", "/health", headers=many) == 400
        later = {**acme, "Prefer": "respond-async"}
        assert await status("POST", turns, json={"input": "1"}, headers=later) == 202
        await held.running.wait()
        assert await status("POST", turns, json={"input": "2"}, headers=later) == 202
        assert await status("POST", turns, json={"input": "3"}, headers=later) in (429, 503)
        async with talking(peer, headers=acme) as talk:
            await talk.ask("subscribe", session_id="s")
            answer = await talk.ask("subscribe", session_id="other")
            assert answer["error"]["code"] == "too_large"
            async with connected(peer, headers=acme) as second:
                await second.say("hello")
                assert (await second.closed()).code == 4429
            await talk.socket.send_str(msgspec.json.encode({"type": "x" * 600}).decode())
            assert (await talk.closed()).code == 4413
        held.release.set()
