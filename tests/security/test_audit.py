"""The audit log of a server: failures at the door and what admins do are noted, secrets are not."""

from __future__ import annotations

import pytest

from pool import AgentSpec
from pool.agent import Decision, ToolCall, TurnEnd
from pool.guard.audit import Audit
from pool.guard.audit_file import FileSink
from pool.guard.audit_records import read_line
from tests.support.agents import Scripted
from tests.support.principals import guarded
from tests.support.serving import echo
from tests.support.sockets import connected, talking

pytestmark = pytest.mark.real_time(10)

CANARY = "canaryc0ffee" * 3


class Kept:
    """An audit log in a file, and what is in it when it is closed."""

    def __init__(self, path):
        self.path = path
        self.audit = Audit(FileSink(path, fsync="never"), chain="p1")

    async def __aenter__(self):
        await self.audit.open()
        return self

    async def __aexit__(self, *_):
        await self.audit.close()

    def of(self, action):
        """The records of an action."""
        read = filter(None, map(read_line, self.path.read_bytes().splitlines()))
        return [record for _, record in read if record.action == action]


async def test_failures_at_the_door_are_recorded(tmp_path):
    """Each of them, with address and request, by HTTP and at the WebSocket's handshake; what was
    shown is nowhere, and who was let in leaves no record.
    """
    async with (
        Kept(tmp_path / "audit") as kept,
        guarded(echo, engine={"audit": kept.audit}) as (peer, keys),
    ):
        answers = [
            await peer.get("/v1/agents", headers={"X-API-Key": f"ap_{CANARY}"}),
            await peer.get(f"/v1/turns/{CANARY}"),
            await peer.get("/v1/ws", headers={"Sec-WebSocket-Protocol": "actorpool.v1"}),
            await peer.get("/v1/agents", headers=keys.of("acme")),
        ]
        assert [answer.status for answer in answers] == [401, 401, 400, 200]
        with pytest.raises(Exception, match="401"):
            async with connected(peer, headers={"X-API-Key": CANARY}):
                pass
        ids = [answer.headers["X-Request-ID"] for answer in answers[:2]]
    records = kept.of("authenticate")
    assert [record.request_id for record in records[:2]] == ids
    assert len(records) == 3
    said = {(each.outcome, each.reason, each.subject, each.user) for each in records}
    assert said == {("refused", "unauthenticated", "client:127.0.0.1", "")}
    assert CANARY.encode() not in kept.path.read_bytes()


async def test_a_bad_ticket_is_recorded(tmp_path):
    """So is a hello that shows nothing, and a ticket that is somebody else's."""
    async with (
        Kept(tmp_path / "audit") as kept,
        guarded(echo, engine={"audit": kept.audit}) as (peer, keys),
    ):
        issued = await peer.post("/v1/ws/tickets", headers=keys.of("rival"))
        ticket = (await issued.json())["ticket"]
        for headers, hello in (
            ({}, {"ticket": CANARY}),
            ({}, {}),
            (keys.of("acme"), {"ticket": ticket}),
        ):
            async with connected(peer, headers=headers) as talk:
                await talk.say("hello", **hello)
                await talk.closed()
        async with talking(peer, headers=keys.of("acme")):
            pass
    strangers, (mixed,) = kept.of("authenticate"), kept.of("authorize")
    assert [record.reason for record in strangers] == ["unauthenticated", "unauthenticated"]
    assert {record.subject for record in (*strangers, mixed)} == {"client:127.0.0.1"}
    assert (mixed.outcome, mixed.reason, mixed.user) == ("refused", "forbidden", "user-1")
    for secret in (CANARY, ticket):
        assert secret.encode() not in kept.path.read_bytes()


async def test_who_asks_about_others_is_recorded(tmp_path):
    """About another tenant's usage or budgets, or another user's usage, without the role for it."""
    refused = (
        ("user", "/v1/usage?user=bob", "route:GET /v1/usage"),
        ("operator", "/v1/usage?tenant=rival", "route:GET /v1/usage"),
        ("operator", "/v1/budgets?tenant=*", "route:GET /v1/budgets"),
    )
    async with (
        Kept(tmp_path / "audit") as kept,
        guarded({"a": echo}, engine={"audit": kept.audit}) as (peer, keys),
    ):
        for role, path, _ in refused:
            assert (await peer.get(path, headers=keys.of("acme", role))).status == 403
        for path in ("/v1/usage?tenant=rival", "/v1/budgets?tenant=*"):
            assert (await peer.get(path, headers=keys.of("acme", "admin"))).status == 200
    records = kept.of("authorize")
    assert {(each.outcome, each.reason) for each in records} == {("refused", "forbidden")}
    assert [(each.user, each.subject) for each in records] == [
        (f"{role}-1", subject) for role, _, subject in refused
    ]


async def test_what_an_admin_changes_is_recorded(tmp_path):
    """With who it was and what to; what was not allowed or not valid changed nothing."""
    async with (
        Kept(tmp_path / "audit") as kept,
        guarded({"a": echo}, engine={"audit": kept.audit}) as (peer, keys),
    ):
        for role, path, body, status in (
            ("operator", "/v1/pool/a", {"max": 3}, 403),
            ("admin", "/v1/pool/b", {"max": 3}, 404),
            ("admin", "/v1/pool/a", {"max": 3}, 200),
        ):
            headers = keys.of("acme", role)
            answer = await peer.request("PATCH", path, json=body, headers=headers)
            assert answer.status == status
    (refused,) = kept.of("authorize")
    assert (refused.outcome, refused.reason) == ("refused", "forbidden")
    assert (refused.subject, refused.user) == ("route:PATCH /v1/pool/{agent}", "operator-1")
    (record,) = kept.of("admin.resize_agent")
    assert (record.outcome, record.subject, record.reason) == ("done", "agent:a", "max 3")
    assert (record.tenant, record.user) == ("acme", "admin-1")
    assert record.request_id == answer.headers["X-Request-ID"]


async def test_arguments_of_tools_are_not_recorded(tmp_path):
    """Neither they, nor inputs, nor a human's words: a digest, who it was, and what came of it."""

    async def run(turn, ctx):
        decision = await ctx.gate(ToolCall("c1", "mail", {"to": CANARY}))
        return TurnEnd("paused" if decision.action == "ask" else "done", "ok", b"s")

    spec = AgentSpec(
        agent=Scripted(run, state_format="s/1"), gate=lambda who, call: Decision("ask", CANARY)
    )
    async with (
        Kept(tmp_path / "audit") as kept,
        guarded(spec, engine={"audit": kept.audit}) as (peer, keys),
    ):
        headers = keys.of("acme")
        body = {"input": CANARY}
        asked = await peer.post("/v1/sessions/s/turns", body, headers=headers)
        turn_id = (await asked.json())["id"]
        path = f"/v1/turns/{turn_id}/approvals/c1"
        body = {"decision": "approve", "reason": CANARY}
        decided = await peer.post(path, body, headers=headers)
        assert (asked.status, decided.status) == (202, 200)
        await peer.get(f"/v1/turns/{turn_id}?wait_s=5", headers=headers)
    (accepted,) = kept.of("turn.accept")
    (decision,) = kept.of("approval.decide")
    calls = kept.of("tool.call")
    assert (accepted.subject, accepted.user) == (f"turn:{turn_id}", "user-1")
    assert accepted.request_id == asked.headers["X-Request-ID"]
    assert (decision.outcome, decision.user) == ("approved", "user-1")
    assert decision.request_id == decided.headers["X-Request-ID"]
    assert [each.reason for each in calls] == ["gate", "human"]
    assert {each.arguments for each in (decision, *calls)} == {kept.audit.digest({"to": CANARY})}
    assert CANARY.encode() not in kept.path.read_bytes()


async def test_who_may_not_decide_about_a_call_is_recorded(tmp_path):
    """By HTTP and WebSocket: who it was, and which turn's tool; whoever may decides all the
    same.
    """

    async def run(turn, ctx):
        decision = await ctx.gate(ToolCall("c1", "mail", {"to": CANARY}))
        return TurnEnd("paused" if decision.action == "ask" else "done", "ok", b"s")

    ask = Decision("ask", deciders=("operator",))
    spec = AgentSpec(agent=Scripted(run, state_format="s/1"), gate=lambda who, call: ask)
    async with (
        Kept(tmp_path / "audit") as kept,
        guarded(spec, engine={"audit": kept.audit}) as (peer, keys),
    ):
        asked = await peer.post("/v1/sessions/s/turns", {"input": "x"}, headers=keys.of("acme"))
        turn_id = (await asked.json())["id"]
        path, body = f"/v1/turns/{turn_id}/approvals/c1", {"decision": "approve"}
        refused = await peer.post(path, body, headers=keys.of("acme"))
        async with talking(peer, headers=keys.of("acme")) as talk:
            said = await talk.ask("approve", turn_id=turn_id, call_id="c1", decision="approve")
        decided = await peer.post(path, body, headers=keys.of("acme", "operator"))
        assert (refused.status, said["type"], decided.status) == (403, "error", 200)
    *strangers, decision = kept.of("approval.decide")
    assert [(each.outcome, each.reason, each.user) for each in strangers] == [
        ("refused", "forbidden", "user-1")
    ] * 2
    assert {each.subject for each in strangers} == {f"turn:{turn_id} tool:mail"}
    assert strangers[0].request_id == refused.headers["X-Request-ID"]
    assert (decision.outcome, decision.user) == ("approved", "operator-1")
    assert CANARY.encode() not in kept.path.read_bytes()
