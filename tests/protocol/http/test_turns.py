"""Turns over HTTP: the ways of answering, cancel, approvals, idempotency, every refusal."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientResponse

from pool import AgentSpec, PoolConfig
from tests.support.call_ids import CALL_IDS
from tests.support.serving import Peer, echo, events, serving, types, until
from tests.support.serving_agents import Held, asking, failing

pytestmark = pytest.mark.real_time

TURNS = "/v1/sessions/s1/turns"
STREAM = {"Accept": "text/event-stream"}
ASYNC = {"Prefer": "respond-async"}


async def problem(response: ClientResponse, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is this problem, and whole; return it."""
    assert (response.status, response.content_type) == (status, "application/problem+json")
    body: dict[str, Any] = await response.json(content_type=None)
    assert (body["status"], body["code"]) == (status, code)
    assert body["type"] == f"urn:actorpool:problem:{code}"
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert ("Retry-After" in response.headers) is (status in (429, 503))
    return body


# --- the ways of answering


async def test_a_plain_turn_waits_for_its_answer() -> None:
    """200 with the turn as it ended, and the session is made."""
    async with serving() as peer:
        response = await peer.post(TURNS, {"input": "hi", "metadata": {"a": 1}})
        assert (response.status, response.content_type) == (200, "application/json")
        turn = await response.json()
        assert (turn["state"], turn["output"], turn["input"]) == ("completed", "echo: hi", "hi")
        assert (turn["session_id"], turn["metadata"]) == ("s1", {"a": 1})
        assert (await peer.get("/v1/sessions/s1")).status == 200


async def test_an_event_stream_ends_with_the_terminal_event() -> None:
    """With `Accept: text/event-stream` the turn's events are the answer."""
    async with serving() as peer:
        response = await peer.post(TURNS, {"input": "hi"}, headers=STREAM)
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Accel-Buffering"] == "no"
        found = events(await response.text())
        assert types(found) == ["turn.queued", "turn.started", "text.delta", "turn.completed"]
        assert found[-1]["turn"]["output"] == "echo: hi"
        assert "input" not in found[-1]["turn"]
        assert [event["id"] for event in found] == sorted(event["id"] for event in found)


async def test_respond_async_answers_at_once_with_the_place_of_the_turn() -> None:
    """202, the turn, its Location; the preference was applied."""
    held = Held()
    async with serving(held) as peer:
        response = await peer.post(TURNS, {"input": "hi"}, headers=ASYNC)
        turn = await response.json()
        assert response.status == 202
        assert response.headers["Location"] == f"/v1/turns/{turn['id']}"
        assert response.headers["Preference-Applied"] == "respond-async"
        assert turn["state"] in ("queued", "running")
        held.release.set()
        ended = await (await peer.get(f"/v1/turns/{turn['id']}?wait_s=30")).json()
        assert (ended["state"], ended["output"]) == ("completed", "late: hi")


async def test_prefer_wait_answers_in_time_or_with_202() -> None:
    """The plain answer if it comes in time, else 202 with the turn."""
    held = Held()
    async with serving({"echo": echo, "held": held}) as peer:
        soon = await peer.post(TURNS, {"input": "hi"}, headers={"Prefer": "wait=30"})
        assert (soon.status, soon.headers["Preference-Applied"]) == (200, "wait=30")
        late = await peer.post(
            TURNS, {"input": "hi", "agent": "held"}, headers={"Prefer": "wait=0"}
        )
        assert (late.status, late.headers["Preference-Applied"]) == (202, "wait=0")
        assert (await late.json())["state"] != "completed"


async def test_a_failed_turn_is_502_and_says_nothing_of_the_exception() -> None:
    """A problem with the turn's id; the turn itself can still be read with 200."""
    async with serving(failing) as peer:
        body = await problem(await peer.post(TURNS, {"input": "x"}), 502, "agent_failed")
        assert "hunter2" not in str(body)
        read = await peer.get(f"/v1/turns/{body['turn_id']}")
        assert (read.status, (await read.json())["state"]) == (200, "failed")
        public = await problem(await peer.post(TURNS, {"input": "public"}), 502, "agent_failed")
        assert public["detail"] == "the menu is empty"


async def test_an_expired_turn_is_504() -> None:
    """The deadline counts from acceptance."""
    async with serving(Held()) as peer:
        response = await peer.post(TURNS, {"input": "x", "deadline_s": 0.05})
        body = await problem(response, 504, "deadline_exceeded")
        assert "turn_id" in body


async def test_a_cancelled_turn_is_an_answer() -> None:
    """200 with the turn and what it said so far."""
    held = Held()
    async with serving(held) as peer:
        key = {"Idempotency-Key": "k"}
        waiting = asyncio.ensure_future(peer.post(TURNS, {"input": "x"}, headers=key))
        await held.running.wait()
        turn_id = await peer.turn_id("s1", "k", "x")
        cancelled = await peer.post(f"/v1/turns/{turn_id}/cancel")
        assert (cancelled.status, (await cancelled.json())["state"]) == (200, "cancelled")
        response = await waiting
        assert (response.status, (await response.json())["state"]) == (200, "cancelled")
        again = await peer.post(f"/v1/turns/{turn_id}/cancel")
        assert (again.status, (await again.json())["state"]) == (200, "cancelled")


async def test_cancelling_an_agent_that_takes_its_time_is_202() -> None:
    """The cancel is on its way; the turn is still stopping."""
    release = asyncio.Event()
    running = asyncio.Event()

    async def stubborn(text: str) -> str:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
            raise
        return text

    async with serving(stubborn) as peer:
        response = await peer.post(TURNS, {"input": "x"}, headers=ASYNC)
        turn_id = (await response.json())["id"]
        await running.wait()
        cancelled = await peer.post(f"/v1/turns/{turn_id}/cancel")
        assert (cancelled.status, (await cancelled.json())["state"]) == (202, "running")
        release.set()
        ended = await peer.get(f"/v1/turns/{turn_id}?wait_s=10")
        assert (await ended.json())["state"] == "cancelled"


# --- idempotency


async def test_a_key_gives_the_same_turn_in_whatever_way_it_is_asked() -> None:
    """Plain, asynchronous or streamed from its first event: one run."""
    key = {"Idempotency-Key": "k-1"}
    async with serving() as peer:
        first = await (await peer.post(TURNS, {"input": "hi"}, headers=key)).json()
        again = await peer.post(TURNS, {"input": "hi", "priority": "default"}, headers=key)
        assert (again.status, await again.json()) == (200, first)
        later = await peer.post(TURNS, {"input": "hi"}, headers=key | ASYNC)
        assert (later.status, (await later.json())["id"]) == (202, first["id"])
        streamed = await peer.post(TURNS, {"input": "hi"}, headers=key | STREAM)
        found = events(await streamed.text())
        assert found[0]["type"] == "turn.queued"
        assert {event["turn_id"] for event in found} == {first["id"]}


async def test_a_key_with_another_body_is_422() -> None:
    """The same key does not stand for two requests."""
    key = {"Idempotency-Key": "k-1"}
    async with serving() as peer:
        await peer.post(TURNS, {"input": "hi"}, headers=key)
        other = await peer.post(TURNS, {"input": "ho"}, headers=key)
        await problem(other, 422, "idempotency_mismatch")


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 129])
async def test_a_malformed_key_is_400(key: str) -> None:
    """1 to 128 visible ASCII characters."""
    async with serving() as peer:
        response = await peer.post(TURNS, {"input": "hi"}, headers={"Idempotency-Key": key})
        body = await problem(response, 400, "invalid_request")
        assert body["errors"][0]["field"] == "Idempotency-Key"


async def test_a_hundred_requests_with_one_key_are_one_run() -> None:
    """All get the same turn."""
    runs = 0

    async def counting(text: str) -> str:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.01)
        return text

    async with serving(counting) as peer:
        key = {"Idempotency-Key": "k"}
        asked = [peer.post(TURNS, {"input": "x"}, headers=key) for _ in range(100)]
        turns = [await response.json() for response in await asyncio.gather(*asked)]
        assert runs == 1
        assert len({turn["id"] for turn in turns}) == 1


# --- who leaves


@pytest.mark.parametrize("headers", [{}, STREAM], ids=["plain", "events"])
async def test_a_turn_goes_on_when_its_caller_leaves(headers: dict[str, str]) -> None:
    """Unless it was asked to end then."""
    held = Held()
    async with serving(held) as peer:
        await _leave(peer, held, {"input": "x"}, headers | {"Idempotency-Key": "k"})
        turn_id = await peer.turn_id("s1", "k", "x")
        held.release.set()
        ended = await (await peer.get(f"/v1/turns/{turn_id}?wait_s=10")).json()
        assert ended["state"] == "completed"
        assert not held.cancelled.is_set()


@pytest.mark.parametrize("headers", [{}, STREAM], ids=["plain", "events"])
async def test_a_turn_ends_when_its_caller_leaves_if_asked_to(headers: dict[str, str]) -> None:
    """`on_disconnect: cancel`."""
    held = Held()
    async with serving(held) as peer:
        await _leave(peer, held, {"input": "x", "on_disconnect": "cancel"}, headers)
        await held.cancelled.wait()


async def test_only_the_submitter_takes_a_turn_along() -> None:
    """A retry with the same key that leaves does not cancel the turn."""
    held = Held()
    key = {"Idempotency-Key": "k"}
    body = {"input": "x", "on_disconnect": "cancel"}
    async with serving(held) as peer:
        first = asyncio.ensure_future(peer.post(TURNS, body, headers=key))
        await held.running.wait()
        await _leave(peer, held, body, key)
        held.release.set()
        response = await first
        assert (response.status, (await response.json())["state"]) == (200, "completed")


async def _leave(peer: Peer, held: Held, body: object, headers: dict[str, str]) -> None:
    """Submit a turn and leave while it runs; returns when the server has noticed."""
    before = peer.server.open_connections
    asked = asyncio.ensure_future(peer.post(TURNS, body, headers=headers))
    await held.running.wait()
    await until(lambda: peer.server.open_connections > before)
    asked.cancel()
    await asyncio.wait([asked])
    await until(lambda: peer.server.open_connections == before)


# --- approvals


async def test_a_turn_that_needs_an_approval_is_202_until_it_is_decided() -> None:
    """Plain waiting stops at the approval; approved, the turn goes on."""
    async with serving(asking()) as peer:
        response = await peer.post(TURNS, {"input": "x"})
        turn = await response.json()
        assert (response.status, turn["state"]) == (202, "waiting")
        assert response.headers["Location"] == f"/v1/turns/{turn['id']}"
        (call,) = turn["pending"]
        assert (call["call_id"], call["arguments"], call["risk"]) == (
            "c1",
            {"euro": 5},
            "dangerous",
        )
        place = f"/v1/turns/{turn['id']}/approvals/c1"
        swapped = {"decision": "approve", "arguments": {"euro": 500}}
        await problem(await peer.post(place, swapped), 409, "conflict")
        shown = {"decision": "approve", "arguments": {"euro": 5}}
        assert (await peer.post(place, shown)).status == 200
        await problem(await peer.post(place, {"decision": "deny"}), 409, "conflict")
        await problem(await peer.post(place, shown), 409, "conflict")
        # whoever lost the answer asks again, and says so
        key = {"Idempotency-Key": "k"}
        assert (await peer.post(place, shown, headers=key)).status == 200
        for other in ({"decision": "deny"}, swapped):
            await problem(await peer.post(place, other, headers=key), 409, "conflict")
        ended = await (await peer.get(f"/v1/turns/{turn['id']}?wait_s=10")).json()
        assert (ended["state"], ended["output"]) == ("completed", "paid")


async def test_a_denied_call_is_not_made() -> None:
    """The agent is told, and answers without it."""
    async with serving(asking()) as peer:
        turn = await (await peer.post(TURNS, {"input": "x"})).json()
        place = f"/v1/turns/{turn['id']}/approvals"
        await problem(await peer.post(f"{place}/c2", {"decision": "deny"}), 409, "conflict")
        assert (await peer.post(f"{place}/c1", {"decision": "deny", "reason": "no"})).status == 200
        ended = await (await peer.get(f"/v1/turns/{turn['id']}?wait_s=10")).json()
        assert ended["output"] == "not paid"


@pytest.mark.parametrize("call_id", CALL_IDS)
async def test_a_call_is_decided_by_whatever_its_provider_called_it(call_id: str) -> None:
    """Up to 256 visible characters, percent-encoded in the path."""
    async with serving(asking(call_id)) as peer:
        turn = await (await peer.post(TURNS, {"input": "x"})).json()
        assert turn["pending"][0]["call_id"] == call_id
        place = f"/v1/turns/{turn['id']}/approvals/{quote(call_id, safe='')}"
        assert (await peer.post(place, {"decision": "approve"})).status == 200
        ended = await (await peer.get(f"/v1/turns/{turn['id']}?wait_s=10")).json()
        assert ended["output"] == "paid"


# --- refusals


async def test_an_unknown_agent_session_or_turn_is_404() -> None:
    """What does not exist is not found."""
    async with serving() as peer:
        missing = await peer.post(TURNS, {"input": "x", "agent": "nobody"})
        await problem(missing, 404, "not_found")
        await problem(await peer.get("/v1/turns/nothing"), 404, "not_found")
        await problem(await peer.get("/v1/turns/nothing?wait_s=1"), 404, "not_found")
        await problem(await peer.post("/v1/turns/nothing/cancel"), 404, "not_found")
        decided = await peer.post("/v1/turns/nothing/approvals/c", {"decision": "deny"})
        await problem(decided, 404, "not_found")


async def test_a_busy_session_can_be_refused() -> None:
    """`if_busy: reject` is 409 while another turn is there."""
    held = Held()
    async with serving(held) as peer:
        await peer.post(TURNS, {"input": "x"}, headers=ASYNC)
        busy = await peer.post(TURNS, {"input": "x", "if_busy": "reject"})
        body = await problem(busy, 409, "session_busy")
        assert body["retryable"] is True


async def test_a_full_pool_is_503_and_a_tenants_share_429() -> None:
    """With Retry-After in whole seconds and the exact time in the body."""
    held = Held()
    one = AgentSpec(agent=held, max=1)
    for pool, status, code in (
        (PoolConfig(queue_max=1), 503, "overloaded"),
        (PoolConfig(queue_max=4, tenant_share=0.25), 429, "tenant_queue_full"),
    ):
        async with serving(one, pool=pool) as peer:
            for number in range(2):
                place = f"/v1/sessions/s{number}/turns"
                assert (await peer.post(place, {"input": "x"}, headers=ASYNC)).status == 202
                await held.running.wait()
            response = await peer.post("/v1/sessions/s9/turns", {"input": "x"})
            body = await problem(response, status, code)
            assert re.fullmatch("[1-9][0-9]*", response.headers["Retry-After"])
            assert int(response.headers["Retry-After"]) >= body["retry_after_s"]
            assert body["retryable"] is True


async def test_a_draining_server_takes_no_turns() -> None:
    """503, so that the caller tries another one."""
    async with serving() as peer:
        await peer.pool.drain(deadline_s=0)
        await problem(await peer.post(TURNS, {"input": "x"}), 503, "draining")


async def test_a_turn_that_crashes_its_actor_too_often_is_a_dead_letter() -> None:
    """502 dead_letter."""

    class Crash(BaseException):
        """No Exception: it takes the actor down."""

    async def crashing(text: str) -> str:
        raise Crash

    async with serving(crashing, pool=PoolConfig(max_attempts=1)) as peer:
        await problem(await peer.post(TURNS, {"input": "x"}), 502, "dead_letter")


@pytest.mark.parametrize("wait_s", ["61", "-1", "x", "nan"])
async def test_a_wait_has_limits(wait_s: str) -> None:
    """0 to 60 seconds."""
    async with serving() as peer:
        turn = await (await peer.post(TURNS, {"input": "x"})).json()
        place = f"/v1/turns/{turn['id']}?wait_s={wait_s}"
        body = await problem(await peer.get(place), 400, "invalid_request")
        assert body["errors"][0]["field"] == "wait_s"


async def test_a_wait_that_is_over_gives_the_turn_as_it_is() -> None:
    """200, not ended."""
    async with serving(Held()) as peer:
        turn = await (await peer.post(TURNS, {"input": "x"}, headers=ASYNC)).json()
        response = await peer.get(f"/v1/turns/{turn['id']}?wait_s=0.01")
        assert (response.status, (await response.json())["state"]) == (200, "running")
