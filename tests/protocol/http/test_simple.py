"""The simple door: the usual tutorial's requests, over the very same turns."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from tests.support.serving import blocks, serving
from tests.support.serving_agents import Held, asking, failing

pytestmark = pytest.mark.real_time


async def test_invoke_answers_with_the_response() -> None:
    """In a thread of its own, or in the one that was named."""
    async with serving() as peer:
        first = await (await peer.post("/agent/invoke", {"message": "hi"})).json()
        assert (first["response"], first["tool_calls"]) == ("echo: hi", [])
        body = {"message": "ho", "thread_id": first["thread_id"]}
        assert (await (await peer.post("/agent/invoke", body)).json())["response"] == "echo: ho"
        said = await peer.get(f"/v1/sessions/{first['thread_id']}/messages")
        assert len((await said.json())["messages"]) == 4


async def test_invoke_lists_the_tools_that_were_called() -> None:
    """By the last attempt; a call that waits for a human makes it 202."""
    async with serving(asking()) as peer:
        key = {"Idempotency-Key": "k"}
        paused = await peer.post("/agent/invoke", {"message": "x", "thread_id": "s2"}, headers=key)
        assert (paused.status, (await paused.json())["tool_calls"]) == (202, [])
        turn_id = await peer.turn_id("s2", "k", "x")
        await peer.post(f"/v1/turns/{turn_id}/approvals/c1", {"decision": "approve"})
        await peer.get(f"/v1/turns/{turn_id}?wait_s=10")
        again = await peer.post("/agent/invoke", {"message": "x", "thread_id": "s2"}, headers=key)
        assert (again.status, await again.json()) == (
            200,
            {
                "response": "paid",
                "thread_id": "s2",
                "tool_calls": [{"call_id": "c1", "name": "pay", "arguments": {"euro": 5}}],
            },
        )


async def test_invoke_that_fails_is_a_problem() -> None:
    """As on the native door."""
    async with serving(failing) as peer:
        response = await peer.post("/agent/invoke", {"message": "x"})
        assert (response.status, response.content_type) == (502, "application/problem+json")


async def test_stream_says_content_then_done() -> None:
    """Lines of data, without ids."""
    async with serving() as peer:
        body = {"message": "hi", "thread_id": "s1"}
        response = await peer.post("/agent/stream", body)
        assert response.content_type == "text/event-stream"
        lines = [msgspec.json.decode(block["data"]) for block in blocks(await response.text())]
        assert lines == [
            {"type": "content", "content": "echo: hi"},
            {"type": "done", "thread_id": "s1"},
        ]


async def test_a_stream_that_fails_ends_with_an_error() -> None:
    """The problem, in the last line."""
    async with serving(failing) as peer:
        response = await peer.post("/agent/stream", {"message": "x"})
        (line,) = [msgspec.json.decode(block["data"]) for block in blocks(await response.text())]
        assert line["type"] == "error"
        assert (line["error"]["code"], line["error"]["status"]) == ("agent_failed", 502)
        assert line["error"]["request_id"] == response.headers["X-Request-ID"]


@pytest.mark.parametrize("name", ["message", "prompt"])
async def test_run_gives_a_task_to_ask_about(name: str) -> None:
    """202 at once; its status is the turn's state, its result the output."""
    held = Held()
    async with serving(held) as peer:
        response = await peer.post("/agent/run", {name: "x", "user_id": "u", "session_id": "s1"})
        task = await response.json()
        assert (response.status, set(task)) == (202, {"task_id", "status"})
        place = response.headers["Location"]
        assert place == f"/agent/status/{task['task_id']}"
        await held.running.wait()
        running = await (await peer.get(place)).json()
        assert running == {"task_id": task["task_id"], "status": "running"}
        held.release.set()
        await peer.get(f"/v1/turns/{task['task_id']}?wait_s=10")
        ended = await (await peer.get(place)).json()
        assert ended == {"task_id": task["task_id"], "status": "completed", "result": "late: x"}


async def test_run_with_prefer_wait_waits() -> None:
    """200 with the result if it ended in time, else 202."""
    async with serving() as peer:
        response = await peer.post("/agent/run", {"message": "x"}, headers={"Prefer": "wait=30"})
        body = await response.json()
        assert (response.status, body["status"], body["result"]) == (200, "completed", "echo: x")
        assert response.headers["Preference-Applied"] == "wait=30"
    async with serving(Held()) as peer:
        headers = {"Prefer": "wait=1"}
        response = await peer.post("/agent/run", {"message": "x"}, headers=headers)
        assert response.status == 202


async def test_a_failed_task_says_why() -> None:
    """Its status is 200: the question was answered."""
    async with serving(failing) as peer:
        response = await peer.post("/agent/run", {"message": "x"}, headers={"Prefer": "wait=30"})
        task = await response.json()
        assert (response.status, task["status"]) == (200, "failed")
        assert task["error"]["code"] == "agent_failed"
        status = await peer.get(f"/agent/status/{task['task_id']}")
        assert (status.status, await status.json()) == (200, task)


@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("/agent/run", {}),
        ("/agent/run", {"message": "a", "prompt": "b"}),
        ("/agent/run", {"message": ""}),
        ("/agent/run", {"message": "a", "session_id": "../"}),
        ("/agent/invoke", {}),
        ("/agent/invoke", {"message": "a", "thread_id": "a\n"}),
        ("/agent/stream", {"message": 3}),
    ],
)
async def test_a_wrong_request_is_400(place: str, body: object) -> None:
    """With the field that is wrong."""
    async with serving() as peer:
        response = await peer.post(place, body)
        assert response.status == 400
        assert (await response.json(content_type=None))["code"] == "invalid_request"


async def test_a_key_without_a_session_names_one() -> None:
    """The same key gives the same thread and one run."""
    async with serving() as peer:
        key = {"Idempotency-Key": "k-1"}
        first = await (await peer.post("/agent/invoke", {"message": "x"}, headers=key)).json()
        again = await (await peer.post("/agent/invoke", {"message": "x"}, headers=key)).json()
        assert first == again
        assert first["thread_id"] == "k" + sha256(b"default\nk-1").hexdigest()[:40]
        said = await peer.get(f"/v1/sessions/{first['thread_id']}/messages")
        assert len((await said.json())["messages"]) == 2
