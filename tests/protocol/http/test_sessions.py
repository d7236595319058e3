"""Sessions over HTTP: make, list, read, fork, forget, and their transcripts."""

from __future__ import annotations

import pytest

from tests.support.serving import serving
from tests.support.serving_agents import Held

pytestmark = pytest.mark.real_time


async def test_a_session_is_made_once() -> None:
    """201 with its place; again it is 409."""
    async with serving() as peer:
        body = {"session_id": "s1", "metadata": {"a": 1}, "ttl_s": 60}
        made = await peer.post("/v1/sessions", body)
        assert (made.status, made.headers["Location"]) == (201, "/v1/sessions/s1")
        info = await made.json()
        assert info["id"] == info["session_id"] == "s1"
        assert (info["metadata"], info["ttl_s"], info["turns"]) == ({"a": 1}, 60, 0)
        assert await (await peer.get("/v1/sessions/s1")).json() == info
        again = await peer.post("/v1/sessions", body)
        assert again.status == 409
        assert (await again.json(content_type=None))["code"] == "conflict"


async def test_a_session_needs_nothing() -> None:
    """Neither fields nor a body; it gets an id of its own."""
    async with serving() as peer:
        first = await (await peer.post("/v1/sessions", {})).json()
        second = await (await peer.request("POST", "/v1/sessions")).json()
        assert first["id"] != second["id"]


async def test_an_unknown_agent_or_session_is_404() -> None:
    """On every route of sessions."""
    async with serving() as peer:
        assert (await peer.post("/v1/sessions", {"agent": "nobody"})).status == 404
        for method, place in (
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/messages"),
            ("GET", "/events"),
            ("POST", "/fork"),
        ):
            response = await peer.request(method, f"/v1/sessions/nothing{place}")
            assert (response.status, response.content_type) == (404, "application/problem+json")


async def test_sessions_are_listed_in_pages() -> None:
    """Each once, in the order of their making; the last page has no cursor."""
    async with serving() as peer:
        for number in range(5):
            await peer.post("/v1/sessions", {"session_id": f"s{number}"})
        found, cursor = [], None
        while True:
            query = "?limit=2" + (f"&cursor={cursor}" if cursor else "")
            page = await (await peer.get("/v1/sessions" + query)).json()
            assert len(page["sessions"]) <= 2
            found += [session["id"] for session in page["sessions"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert found == [f"s{number}" for number in range(5)]


async def test_a_transcript_is_read_in_pages() -> None:
    """What was asked and what was said, oldest first."""
    async with serving() as peer:
        for text in ("a", "b"):
            await peer.post("/v1/sessions/s1/turns", {"input": text})
        page = await (await peer.get("/v1/sessions/s1/messages?limit=3")).json()
        rest = await peer.get(f"/v1/sessions/s1/messages?cursor={page['next_cursor']}")
        said = page["messages"] + (await rest.json())["messages"]
        assert [(message["role"], message["content"]) for message in said] == [
            ("user", "a"),
            ("assistant", "echo: a"),
            ("user", "b"),
            ("assistant", "echo: b"),
        ]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=%00", "more=1"])
@pytest.mark.parametrize("place", ["/v1/sessions", "/v1/sessions/s1/messages"])
async def test_a_wrong_page_is_400(place: str, query: str) -> None:
    """1 to 1,000 entries, and only cursors that the server gave."""
    async with serving() as peer:
        await peer.post("/v1/sessions/s1/turns", {"input": "x"})
        response = await peer.get(f"{place}?{query}")
        assert response.status == 400
        assert (await response.json(content_type=None))["code"] == "invalid_request"


async def test_a_fork_has_the_transcript_up_to_a_turn() -> None:
    """A new session; the old one stays as it is."""
    async with serving() as peer:
        first = await (await peer.post("/v1/sessions/s1/turns", {"input": "a"})).json()
        await peer.post("/v1/sessions/s1/turns", {"input": "b"})
        body = {"session_id": "s2", "through_turn": first["id"]}
        forked = await peer.post("/v1/sessions/s1/fork", body)
        assert (forked.status, forked.headers["Location"]) == (201, "/v1/sessions/s2")
        said = await (await peer.get("/v1/sessions/s2/messages")).json()
        assert [message["content"] for message in said["messages"]] == ["a", "echo: a"]
        assert (await peer.post("/v1/sessions/s1/fork", body)).status == 409


async def test_a_session_is_forgotten_with_all_its_turns() -> None:
    """204, and then there is nothing."""
    async with serving() as peer:
        turn = await (await peer.post("/v1/sessions/s1/turns", {"input": "a"})).json()
        deleted = await peer.request("DELETE", "/v1/sessions/s1")
        assert (deleted.status, await deleted.text()) == (204, "")
        assert (await peer.get("/v1/sessions/s1")).status == 404
        assert (await peer.get(f"/v1/turns/{turn['id']}")).status == 404


async def test_a_busy_session_is_not_forgotten() -> None:
    """409 while it has a turn."""
    held = Held()
    async with serving(held) as peer:
        body, headers = {"input": "a"}, {"Prefer": "respond-async"}
        await peer.post("/v1/sessions/s1/turns", body, headers=headers)
        response = await peer.request("DELETE", "/v1/sessions/s1")
        assert response.status == 409
        assert (await response.json(content_type=None))["code"] == "session_busy"
