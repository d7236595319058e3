"""Every route and WebSocket command, with two tenants and three roles, from one table.

FAULTS row 25; checks 1 (another tenant's object is as if it were not there), 2 (no anonymous route
outside of an explicit list) and 5 (a user's key on an admin's route is 403).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, get_args

import msgspec
import pytest

from pool.guard.budget import Budget
from pool.guard.ledger import CostConfig
from protocol.command.scrape import scrape_route
from protocol.ws.commands import AnyCommand
from tests.support.principals import ROLES, Headers, Keys, guarded
from tests.support.serving import Peer, echo
from tests.support.serving_agents import asking
from tests.support.sockets import Talk, talking

pytestmark = pytest.mark.real_time(30)

CANARY = "canary-7d1f"
PUBLIC = ("/health", "/ready", "/openapi.json")
# An answer differs from request to request in these alone.
VARYING = re.compile(r'"(request_id|created_at|retry_after_s|connection_id)":("[^"]*"|[0-9.]+)')


class Row(NamedTuple):
    """How a route is tried.

    `own`: what its own tenant gets, if its role is enough. `foreign`: what another tenant gets with
    the same ids: 404 for an object, else an answer about its own things. `role`: the least it takes
    (None: nobody is asked). `stream`: the answer does not end by itself.
    """

    own: int
    foreign: int
    role: str | None = "user"
    body: Any = None
    stream: bool = False


TURN = {"input": "hello"}
DENY = {"decision": "deny"}

# {session}, {turn} and {waiting} are ids of the tenant "acme".
ROUTES = {
    ("GET", "/v1/agents"): Row(200, 200),
    ("POST", "/v1/sessions"): Row(409, 201, body={"session_id": "{session}"}),
    ("GET", "/v1/sessions"): Row(200, 200),
    ("GET", "/v1/sessions/{session_id}"): Row(200, 404),
    ("GET", "/v1/sessions/{session_id}/messages"): Row(200, 404),
    ("GET", "/v1/sessions/{session_id}/usage"): Row(200, 404),
    ("POST", "/v1/sessions/{session_id}/fork"): Row(201, 404),
    ("POST", "/v1/sessions/{session_id}/turns"): Row(200, 200, body=TURN),
    ("GET", "/v1/sessions/{session_id}/events"): Row(200, 404, stream=True),
    ("GET", "/v1/turns/{turn_id}"): Row(200, 404),
    ("GET", "/v1/turns/{turn_id}/events"): Row(200, 404),
    ("POST", "/v1/turns/{turn_id}/cancel"): Row(200, 404),
    ("POST", "/v1/turns/{waiting_id}/approvals/{call_id}"): Row(200, 404, body=DENY),
    ("GET", "/v1/pool"): Row(200, 200, role="operator"),
    ("PATCH", "/v1/pool/{agent}"): Row(200, 200, role="admin", body={"max": 3}),
    ("GET", "/v1/usage"): Row(200, 200),
    ("GET", "/v1/budgets"): Row(200, 200, role="operator"),
    # those of the whole server, like the pool's actors
    ("PATCH", "/v1/budgets/{budget}"): Row(200, 200, role="admin", body={"usd": 2}),
    ("DELETE", "/v1/budgets/{budget}"): Row(204, 204, role="admin"),
    ("GET", "/health"): Row(200, 200, role=None),
    ("GET", "/ready"): Row(200, 200, role=None),
    ("GET", "/openapi.json"): Row(200, 200, role=None),
    ("GET", "/metrics"): Row(200, 200, role="operator"),
    # asks by itself: see the commands
    ("GET", "/v1/ws"): Row(400, 400, role=None),
    ("POST", "/v1/ws/tickets"): Row(201, 201),
    ("POST", "/agent/invoke"): Row(200, 200, body={"message": "x", "thread_id": "{session}"}),
    ("POST", "/agent/stream"): Row(200, 200, body={"message": "x", "thread_id": "{session}"}),
    ("POST", "/agent/run"): Row(202, 202, body={"message": "x", "session_id": "{session}"}),
    ("GET", "/agent/status/{turn_id}"): Row(200, 404),
    # last, as it takes the session away
    ("DELETE", "/v1/sessions/{session_id}"): Row(204, 404),
}

# command -> fields, and whether another tenant gets the answer of an object that is not there
COMMANDS: dict[str, tuple[dict[str, Any], str]] = {
    "hello": ({"sessions": {"{session}": None}}, "not_found"),
    "turn": ({"session_id": "{session}", **TURN, "agent": "echo"}, "own"),
    "cancel": ({"turn_id": "{turn}"}, "not_found"),
    "approve": ({"turn_id": "{waiting}", "call_id": "c1", "decision": "deny"}, "not_found"),
    "subscribe": ({"session_id": "{session}", "after": "0-0"}, "not_found"),
    "unsubscribe": ({"session_id": "{session}"}, "own"),
    "ack": ({"session_id": "{session}", "cursor": "0-0"}, "own"),
    "ping": ({}, "own"),
}
# Of these the server has to ask the store, and must not give away that there is something.
OBJECTS = {name for name, (_, answer) in COMMANDS.items() if answer == "not_found"}


class Scene(NamedTuple):
    """A server with things of the tenant "acme", and the keys of everybody."""

    peer: Peer
    keys: Keys
    ids: dict[str, str]

    def filled(self, value: Any, ids: dict[str, str] | None = None) -> Any:
        """Something of the table with the ids of "acme", or with these."""
        text = msgspec.json.encode(value).decode()
        for name, found in (ids or self.ids).items():
            text = text.replace(f"{{{name}}}", found)
        return msgspec.json.decode(text)

    @property
    def nothing(self) -> dict[str, str]:
        """Ids of nothing."""
        return {name: f"no{name}" for name in self.ids}

    def path(self, path: str, ids: dict[str, str]) -> str:
        """The path of a route with ids."""
        known = {
            "{session_id}": ids["session"],
            "{turn_id}": ids["turn"],
            "{task_id}": ids["turn"],
            "{waiting_id}": ids["waiting"],
            "{call_id}": "c1",
            "{agent}": "echo",
            "{budget}": "team",
        }
        for name, found in known.items():
            path = path.replace(name, found)
        return path

    async def ask(
        self, route: tuple[str, str], headers: Headers, ids: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """What a caller gets of a route: the status and, unless it goes on and on, the body."""
        row, ids = ROUTES[route], ids or self.ids
        body = None if row.body is None else self.filled(row.body, ids)
        url = self.peer.server.url + self.path(route[1], ids)
        async with self.peer.http.request(route[0], url, json=body, headers=headers) as response:
            goes_on = row.stream and response.status == 200
            return response.status, "" if goes_on else await response.text()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """A server, a session of "acme" with a turn that has ended, and one that waits for a human."""
    from pool.telemetry.metrics import Metrics

    extra = {("GET", "/metrics"): scrape_route(Metrics(("echo", "asking")))}
    agents = {"echo": echo, "asking": asking()}
    cost = CostConfig(budgets=(Budget(name="team", usd=1.0),))
    async with guarded(agents, extra_routes=extra, engine={"cost": cost}) as (peer, keys):
        acme = keys.of("acme")
        turns = {}
        for session, agent in (("sacme", "echo"), ("sasks", "asking")):
            response = await peer.post(
                f"/v1/sessions/{session}/turns", {"input": CANARY, "agent": agent}, headers=acme
            )
            assert response.status in (200, 202)
            turns[agent] = (await response.json())["id"]
        ids = {"session": "sacme", "turn": turns["echo"], "waiting": turns["asking"]}
        yield Scene(peer, keys, ids)


def enough(role: str, needed: str | None) -> bool:
    """Whether a role is enough for what is needed."""
    return needed is None or ROLES.index(role) >= ROLES.index(needed)


def same(text: str, *ids: dict[str, str]) -> str:
    """An answer without what differs anyway, and with the ids as their names."""
    for known in ids:
        for name, found in known.items():
            text = text.replace(found, f"<{name}>")
    return VARYING.sub(r'"\1":_', text)


def named(path: str) -> str:
    """The path as the server has it; the table names the turn that waits apart."""
    path = path.replace("{waiting_id}", "{turn_id}")
    return "/agent/status/{task_id}" if path.startswith("/agent/status") else path


async def test_every_route_is_in_the_table():
    """A route that nobody thought about here is served nowhere."""
    async with scene() as it:
        served = {(route.method, route.path) for route in it.peer.server.routes}
    assert served == {(method, named(path)) for method, path in ROUTES}


def test_every_command_is_in_the_table():
    """The same for WebSockets."""
    kinds = {kind.__struct_config__.tag for kind in get_args(AnyCommand)}
    assert kinds == COMMANDS.keys()


async def test_nobody_is_anonymous_but_where_it_is_said():
    """Without credentials every route is 401, but for an explicit list; so with wrong ones."""
    async with scene() as it:
        for route in ROUTES:
            asks_itself = route[1] == "/v1/ws"
            for headers in ({}, {"Authorization": "Bearer ap_0123456789abcdef_wrong"}):
                status, body = await it.ask(route, headers)
                if route[1] in PUBLIC or asks_itself:
                    assert status != 401, route
                else:
                    assert (status, '"code":"unauthenticated"' in body) == (401, True), route
                assert CANARY not in body


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_of_the_tenant_gets_what_it_may(role):
    """What the role is not enough for is 403; everything else is answered."""
    async with scene() as it:
        for route, row in ROUTES.items():
            status, body = await it.ask(route, it.keys.of("acme", role))
            assert status == (row.own if enough(role, row.role) else 403), (route, body)


@pytest.mark.parametrize("role", ROLES)
async def test_another_tenants_things_are_as_if_they_were_not_there(role):
    """With any role: the same status and body as for ids of nothing, and not a word of them."""
    async with scene() as it:
        rival = it.keys.of("rival", role)
        # objects first: the others make things of its own, of the same names
        objects_first = sorted(ROUTES.items(), key=lambda item: item[1].foreign != 404)
        for route, row in objects_first:
            status, body = await it.ask(route, rival)
            assert status == (row.foreign if enough(role, row.role) else 403), (route, body)
            assert CANARY not in body, route
            if status == 404:
                nothing, said = await it.ask(route, rival, it.nothing)
                assert (nothing, same(said, it.nothing)) == (status, same(body, it.ids)), route


async def test_what_another_tenant_did_changed_nothing():
    """The whole table over, the tenant's things are as they were."""
    async with scene() as it:
        for route in ROUTES:
            await it.ask(route, it.keys.of("rival", "admin"))
        acme = it.keys.of("acme")
        messages = await it.peer.get("/v1/sessions/sacme/messages", headers=acme)
        said = [each["content"] for each in (await messages.json())["messages"]]
        assert said == [CANARY, f"echo: {CANARY}"]
        waiting = await it.peer.get(f"/v1/turns/{it.ids['waiting']}", headers=acme)
        assert (await waiting.json())["state"] == "waiting"


async def test_a_tenants_list_has_its_own_sessions_only():
    """Also when both have one of the same name."""
    async with scene() as it:
        await it.ask(("POST", "/v1/sessions"), it.keys.of("rival"))
        for tenant, sessions in (("rival", ["sacme"]), ("acme", ["sacme", "sasks"])):
            found = await it.peer.get("/v1/sessions", headers=it.keys.of(tenant))
            assert [each["id"] for each in (await found.json())["sessions"]] == sessions


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/sessions/shared/turns", {"input": "x", "agent": "echo"}),
        ("/agent/invoke", {"message": "x"}),
        ("/agent/run", {"message": "x"}),
        ("/agent/run", {"message": "x", "session_id": "shared"}),
    ],
)
async def test_an_idempotency_key_is_of_its_tenant(path, body):
    """The same key for the same request finds one's own turn again, never another tenant's."""
    async with scene() as it:
        seen: dict[str, Any] = {}
        for tenant in ("acme", "rival", "acme", "rival"):
            headers = {**it.keys.of(tenant), "Idempotency-Key": "the-same", "Prefer": "wait=5"}
            found = await it.peer.post(path, body, headers=headers)
            answer = await found.json()
            known = {
                name: answer[name] for name in ("id", "task_id", "thread_id") if name in answer
            }
            assert seen.setdefault(tenant, known) == known
        # the simple door names the session after tenant and key, and shows nothing else of it
        assert seen["acme"] != seen["rival"]


async def test_what_names_another_tenants_turn_names_nothing():
    """A fork through a turn, a page after a cursor, a stream after an event: as of nothing."""
    async with scene() as it:
        rival = it.keys.of("rival")
        await it.peer.post("/v1/sessions", {"session_id": "own"}, headers=rival)
        for turn in (it.ids["turn"], it.nothing["turn"]):
            body = {"through_turn": turn}
            forked = await it.peer.post("/v1/sessions/own/fork", body, headers=rival)
            assert forked.status == 404, await forked.text()
        acme = it.keys.of("acme")
        first = await it.peer.get("/v1/sessions?limit=1", headers=acme)
        cursor = (await first.json())["next_cursor"]
        page = await it.peer.get(f"/v1/sessions?cursor={cursor}", headers=rival)
        listed = await page.json() if page.status == 200 else {"sessions": []}
        assert {each["id"] for each in listed["sessions"]} <= {"own"}


async def command_answer(it: Scene, talk: Talk, name: str, ids: dict[str, str]) -> dict[str, Any]:
    """What a client hears of a command; of one without an answer, that of a ping behind it."""
    fields = it.filled(COMMANDS[name][0], ids)
    if name == "hello":
        return await talk.hear()
    await talk.say(name, ref=1, **fields)
    if name == "ack":
        await talk.say("ping", ref=1)
    return await talk.other_than("event")


def hello(it: Scene, name: str, ids: dict[str, str]) -> dict[str, Any]:
    """The hello before a command, or the one that is the command."""
    return it.filled(COMMANDS["hello"][0], ids) if name == "hello" else {}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", COMMANDS)
async def test_another_tenants_things_are_not_there_for_commands(name, role):
    """An object is answered as nothing is; what is no object is the caller's own."""
    async with scene() as it:
        rival = it.keys.of("rival", role)
        async with talking(it.peer, headers=rival, hello=hello(it, name, it.ids)) as talk:
            answer = await command_answer(it, talk, name, it.ids)
        text = msgspec.json.encode(answer).decode()
        assert CANARY not in text
        if name not in OBJECTS:
            assert answer["type"] in ("accepted", "pong")
            return
        assert answer["error"]["code"] == "not_found"
        async with talking(it.peer, headers=rival, hello=hello(it, name, it.nothing)) as talk:
            nothing = await command_answer(it, talk, name, it.nothing)
        said = msgspec.json.encode(nothing).decode()
        assert same(said, it.nothing) == same(text, it.ids)


@pytest.mark.parametrize("name", COMMANDS)
async def test_the_tenants_own_commands_are_answered(name):
    """The same table, by whom the things belong to."""
    async with scene() as it:
        acme = it.keys.of("acme")
        async with talking(it.peer, headers=acme, hello=hello(it, name, it.ids)) as talk:
            if name == "hello":
                await talk.say("ping")
                assert (await talk.hear())["type"] == "pong"
            else:
                assert (await command_answer(it, talk, name, it.ids))["type"] in (
                    "accepted",
                    "pong",
                )


async def test_no_event_of_another_tenant_is_ever_sent():
    """Both have a session of the same name open: each hears its own turns."""
    async with (
        scene() as it,
        talking(it.peer, headers=it.keys.of("acme")) as acme,
        talking(it.peer, headers=it.keys.of("rival")) as rival,
    ):
        await acme.ask("subscribe", session_id="sacme")
        await rival.ask("turn", session_id="sacme", input="mine", agent="echo")
        ended = (await rival.to_end())[-1]
        assert ended["turn"]["output"] == "echo: mine"
        assert await acme.ask("ping") == {"type": "pong"}
