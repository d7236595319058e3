from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from pool import AgentSpec, PoolConfig
from protocol.client import Client, ConnectionLost, ProblemError, ProtocolViolation
from tests.support.call_ids import CALL_IDS
from tests.support.proxy import proxied
from tests.support.serving import serving
from tests.support.serving_agents import Held, asking, failing

pytestmark = pytest.mark.real_time(10)


@asynccontextmanager
async def connecting(*args, **options):
    """A server and a client of it."""
    async with serving(*args, **options) as peer, Client(peer.server.url) as client:
        yield peer, client


async def test_ask_gives_the_answered_turn():
    """The turn comes back completed, with everything the server says of it."""
    async with connecting() as (_, client):
        turn = await client.ask("hi", session="s", deadline_s=5, metadata={"a": [1]})
        assert turn.state == "completed"
        assert turn.ended
        assert turn.output == "echo: hi"
        assert turn.input == "hi"
        assert turn.session_id == "s"
        assert turn.metadata == {"a": [1]}
        assert turn.finished_at >= turn.created_at


async def test_ask_without_a_session_makes_one():
    """Each such turn has a session of its own."""
    async with connecting() as (_, client):
        turns = [await client.ask("hi") for _ in range(2)]
        assert turns[0].session_id != turns[1].session_id


async def test_ask_raises_what_a_turn_failed_with():
    """A failed turn is an error with the server's code and detail, and the turn's id."""
    async with connecting(failing) as (_, client):
        with pytest.raises(ProblemError) as caught:
            await client.ask("public", session="s")
        assert caught.value.code == "agent_failed"
        assert caught.value.status == 502
        assert caught.value.detail == "the menu is empty"
        assert not caught.value.retryable
        assert caught.value.turn_id
        assert str(caught.value) == "agent_failed: the menu is empty"


async def test_ask_waits_as_long_as_the_turn_takes(monkeypatch):
    """A turn that outlasts one wait is waited for again; if it fails then, that is raised too."""
    monkeypatch.setattr("protocol.client.client._WAIT_S", 0)
    agent = Held()
    async with connecting(agent) as (_, client):
        asked = asyncio.ensure_future(client.ask("x", session="s"))
        await agent.running.wait()
        agent.release.set()
        assert (await asked).output == "late: x"


async def test_ask_raises_a_failure_that_comes_after_the_first_wait(monkeypatch):
    """The error then carries the turn."""
    monkeypatch.setattr("protocol.client.client._WAIT_S", 0)
    async with connecting(Held()) as (_, client):
        with pytest.raises(ProblemError) as caught:
            await client.ask("x", session="s", deadline_s=0.1)
        assert caught.value.code == "deadline_exceeded"
        assert caught.value.status == 504
        assert caught.value.turn is not None
        assert caught.value.turn.state == "expired"


async def test_a_turn_can_be_submitted_watched_and_waited_for():
    """Submit returns at once; events and wait lead to the end."""
    agent = Held()
    async with connecting(agent) as (_, client):
        turn = await client.submit("x", session="s")
        assert not turn.ended
        await agent.running.wait()
        assert (await client.turn(turn.id)).state == "running"
        agent.release.set()
        assert (await client.wait(turn.id)).output == "late: x"
        kinds = [type(event).__name__ async for event in client.events(turn.id)]
        assert kinds == ["TurnQueued", "TurnStarted", "TextDelta", "TurnCompleted"]


async def test_stream_gives_the_events_to_the_end():
    """The terminal event is the last and has the turn."""
    async with connecting() as (_, client):
        events = [event async for event in client.stream("hi", session="s")]
        assert events[-1].terminal
        assert events[-1].turn.output == "echo: hi"
        again = [event async for event in client.events(events[0].turn_id, after=events[1].id)]
        assert again == events[2:]
        assert [e async for e in client.events(events[0].turn_id, after=events[-1].id)] == []


async def test_leaving_a_stream_early_closes_its_connection():
    """Whoever stops listening leaves nothing behind, and the turn goes on."""
    agent = Held()
    async with connecting(agent) as (peer, client):
        async with aclosing(client.stream("x", session="s")) as events:
            async for event in events:
                turn_id = event.turn_id
                break
        agent.release.set()
        assert (await client.wait(turn_id)).state == "completed"
        assert not peer.server.bells


async def test_a_turn_can_be_cancelled():
    """Cancel gives the turn as it ended."""
    agent = Held()
    async with connecting(agent) as (_, client):
        turn = await client.submit("x", session="s")
        await agent.running.wait()
        assert (await client.cancel(turn.id)).state == "cancelled"


@pytest.mark.parametrize(("verb", "output"), [("approve", "paid"), ("deny", "not paid")])
async def test_a_waiting_call_can_be_decided(verb, output):
    """Ask gives the paused turn with its pending call; deciding lets it go on."""
    async with connecting(asking()) as (_, client):
        turn = await client.ask("pay", session="s")
        assert turn.state == "waiting"
        (call,) = turn.pending
        assert (call.name, call.arguments, call.risk) == ("pay", {"euro": 5}, "dangerous")
        await getattr(client, verb)(turn.id, call.call_id, reason="why not")
        assert (await client.wait(turn.id)).output == output
        other = {"approve": client.deny, "deny": client.approve}[verb]
        with pytest.raises(ProblemError, match="conflict"):
            await other(turn.id, call.call_id)


@pytest.mark.parametrize("call_id", CALL_IDS)
async def test_a_call_is_decided_whatever_it_is_called(call_id):
    """Its id is whatever a provider makes of it; in the path it is one part."""
    async with connecting(asking(call_id)) as (_, client):
        turn = await client.ask("pay", session="s")
        await client.approve(turn.id, turn.pending[0].call_id)
        assert (await client.wait(turn.id)).output == "paid"


async def test_sessions_can_be_made_listed_read_forked_and_forgotten():
    """All that the server offers on sessions, typed."""
    async with connecting() as (_, client):
        made = await client.create_session("s", metadata={"k": 1}, ttl_s=60)
        assert made.id == "s"
        assert made.metadata == {"k": 1}
        unnamed = await client.create_session()
        await client.ask("hi", session="s")
        assert (await client.session("s")).turns == 1
        page = await client.sessions(limit=1)
        assert [session.id for session in page.sessions] == ["s"]
        rest = await client.sessions(cursor=page.next_cursor)
        assert [session.id for session in rest.sessions] == [unnamed.id]
        transcript = await client.messages("s")
        assert [(entry.role, entry.content) for entry in transcript.messages] == [
            ("user", "hi"),
            ("assistant", "echo: hi"),
        ]
        fork = await client.fork_session("s", "copy")
        assert len((await client.messages(fork.id)).messages) == 2
        await client.delete_session("s")
        with pytest.raises(ProblemError) as caught:
            await client.session("s")
        assert caught.value.status == 404
        with pytest.raises(ProblemError) as caught:
            await client.create_session("copy")
        assert caught.value.code == "conflict"


async def test_what_the_server_has_and_how_it_fares():
    """Agents, live state, health and readiness."""
    async with connecting({"a": Held(), "b": AgentSpec(agent=failing, description="x")}) as (
        peer,
        client,
    ):
        agents = await client.agents()
        assert [(agent.name, agent.default) for agent in agents] == [("a", True), ("b", False)]
        assert {agent.name for agent in (await client.pool()).agents} == {"a", "b"}
        assert await client.health()
        assert (await client.ready()).ready
        peer.server.draining = True
        ready = await client.ready()
        assert not ready.ready
        assert not ready.checks["draining"].ok
        assert repr(client) == f"<Client {peer.server.url}>"


async def test_a_mistake_is_told_by_field():
    """What the server says about single fields is there."""
    async with connecting() as (_, client):
        with pytest.raises(ProblemError) as caught:
            await client.ask("hi", session="s", deadline_s=-1)
        assert [error.field for error in caught.value.errors] == ["deadline_s"]


async def test_a_refusal_that_says_when_is_tried_again():
    """A full pool answers later; the client comes back by itself."""
    agent = Held()
    spec = AgentSpec(agent=agent, max=1)
    async with connecting(spec, pool=PoolConfig(queue_max=1)) as (_, client):
        await client.submit("1", session="a")
        await agent.running.wait()
        await client.submit("2", session="b")
        asked = asyncio.ensure_future(client.ask("3", session="c"))
        await asyncio.wait([asked], timeout=0.2)
        assert not asked.done()
        agent.release.set()
        assert (await asked).output == "late: 3"


async def test_a_refusal_is_raised_when_there_is_no_time_to_try_again():
    """With no time for it, the refusal itself is raised at once."""
    agent = Held()
    spec = AgentSpec(agent=agent, max=1)
    async with (
        serving(spec, pool=PoolConfig(queue_max=1)) as peer,
        Client(peer.server.url, retry_for_s=0) as client,
    ):
        await client.submit("1", session="a")
        await agent.running.wait()
        await client.submit("2", session="b")
        with pytest.raises(ProblemError) as caught:
            await client.ask("3", session="c")
        assert caught.value.retryable
        assert caught.value.status in (429, 503)


async def test_a_server_that_is_not_there_is_a_lost_connection():
    """Nobody answers: tried for as long as was said, then raised."""
    async with serving() as peer:
        url = peer.server.url
    async with Client(url, retry_for_s=0.2) as client:
        with pytest.raises(ConnectionLost):
            await client.health()
        with pytest.raises(ConnectionLost):
            await client.delete_session("s")
        with pytest.raises(ConnectionLost):
            await anext(client.stream("x"))


async def test_a_server_that_is_silent_is_a_lost_connection():
    """An answer that does not begin in time is given up."""
    async with serving() as peer, proxied(peer.server.port) as proxy:
        proxy.stop_forwarding()
        async with Client(proxy.url, timeout_s=0.05, retry_for_s=0.1) as client:
            with pytest.raises(ConnectionLost):
                await client.health()


async def test_a_submit_whose_answer_is_lost_runs_once():
    """The client sends it again with its key: one turn, one run."""
    runs = []

    async def counting(text):
        runs.append(text)
        return text

    async with (
        serving(counting) as peer,
        proxied(peer.server.port) as proxy,
        Client(proxy.url) as client,
    ):
        # the request gets there, the answer does not get back
        proxy.cut_after = 10
        asked = asyncio.ensure_future(client.ask("x", session="s"))
        await proxy.connected(2)
        proxy.cut_after = None
        assert (await asked).output == "x"
        assert runs == ["x"]
        assert (await client.session("s")).turns == 1


async def test_a_session_whose_making_was_not_answered_is_made_once():
    """The second try finds what the first one made."""
    async with (
        serving() as peer,
        proxied(peer.server.port) as proxy,
        Client(proxy.url) as client,
    ):
        proxy.cut_after = 10
        made = asyncio.ensure_future(client.create_session(metadata={"k": 1}))
        await proxy.connected(2)
        proxy.cut_after = None
        assert (await made).metadata == {"k": 1}
        assert len((await client.sessions()).sessions) == 1


async def test_a_key_of_the_caller_is_used():
    """The same idempotency key is the same turn."""
    async with connecting() as (_, client):
        turns = [await client.ask("x", session="s", idempotency_key="k") for _ in range(2)]
        assert turns[0].id == turns[1].id


@asynccontextmanager
async def foreign(handler):
    """A client of something that is no such server."""
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        async with Client(f"http://127.0.0.1:{port}", api_key="sesame", retry_for_s=0.3) as client:
            yield client
    finally:
        await runner.cleanup()


async def test_an_answer_that_is_not_of_the_protocol_is_a_violation():
    """What is not JSON, or not the right JSON, is said to be so."""

    async def handler(request):
        return web.Response(text="<html>")

    async with foreign(handler) as client:
        with pytest.raises(ProtocolViolation):
            await client.session("s")


async def test_an_error_that_is_no_problem_is_told_by_its_status():
    """A proxy's own error page becomes a problem with its status."""

    async def handler(request):
        return web.Response(status=418, text="teapot")

    async with foreign(handler) as client:
        with pytest.raises(ProblemError) as caught:
            await client.session("s")
        assert caught.value.status == 418
        assert caught.value.code == "unknown"


async def test_a_proxys_retry_after_is_honoured_within_the_limit():
    """A 503 without a problem is tried again if there is time for what it asks."""
    calls = []

    async def handler(request):
        calls.append(request.headers["Authorization"])
        return web.Response(status=503, headers={"Retry-After": "60" if len(calls) > 2 else "0"})

    async with foreign(handler) as client:
        with pytest.raises(ProblemError) as caught:
            await client.session("s")
        assert caught.value.retry_after_s == 60
        assert calls == ["Bearer sesame"] * 3


async def test_a_client_that_is_not_open_says_so():
    """Use it in `async with`."""
    with pytest.raises(RuntimeError, match="async with"):
        await Client("http://127.0.0.1:1").health()
