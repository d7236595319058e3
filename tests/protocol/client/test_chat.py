from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random

import pytest

from pool.guard.keys import ApiKeys
from pool.store.memory import MemoryStore
from protocol.authenticate.config import AuthConfig
from protocol.client import (
    Client,
    ClosedByServer,
    ConnectionLost,
    ProblemError,
)
from protocol.client.events import ApprovalRequested, TextDelta
from protocol.ws.config import WsConfig
from tests.support.proxy import proxied
from tests.support.serving import serving
from tests.support.serving_agents import Held, Stepped, asking

pytestmark = pytest.mark.real_time(10)

WORDS = 150
WITH_KEYS = AuthConfig(mode="keys")


async def chatty(text):
    """Say many words, one at a time."""
    for number in range(WORDS):
        yield f"{number} "
        await asyncio.sleep(0.001)


def words():
    """What `chatty` says."""
    return "".join(f"{number} " for number in range(WORDS))


@asynccontextmanager
async def chatting(*args, **options):
    """A server, a proxy before it, and a chat through the proxy."""
    async with (
        serving(*args, **options) as peer,
        proxied(peer.server.port) as proxy,
        Client(proxy.url, random=Random(1)) as client,
        client.chat() as chat,
    ):
        yield peer, proxy, chat


async def to_end(chat, session_id=None):
    """Events up to the next terminal one (of a session)."""
    found = []
    async for event in chat:
        if session_id is None or event.session_id == session_id:
            found.append(event)
            if event.terminal:
                return found
    raise AssertionError("the chat ended")


def text(events):
    """What was said."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def places(events):
    """The places of events in their session's log."""
    return [int(event.id.partition("-")[2]) for event in events]


async def test_a_turn_is_sent_and_its_events_come():
    """Send gives the accepted turn; iterating gives its events to the end."""
    async with chatting() as (_, _, chat):
        turn = await chat.send("s", "hi", metadata={"a": 1})
        assert turn.metadata == {"a": 1}
        events = await to_end(chat)
        assert {event.turn_id for event in events} == {turn.id}
        assert events[-1].turn.output == "echo: hi"
        assert chat.cursors == {"s": events[-1].id}


async def test_sessions_share_a_chat():
    """Any number of sessions, each with its own events."""
    async with chatting() as (_, _, chat):
        for name in ("a", "b", "c"):
            await chat.send(name, name)
        outputs = {}
        async for event in chat:
            if event.terminal:
                outputs[event.session_id] = event.turn.output
                if len(outputs) == 3:
                    break
        assert outputs == {name: f"echo: {name}" for name in "abc"}


async def test_a_long_answer_comes_whole_through_a_small_window():
    """The chat acknowledges what it gives out, so the window never stays closed."""
    async with chatting(chatty, ws=WsConfig(window=3)) as (_, _, chat):
        await chat.send("s", "go")
        assert text(await to_end(chat)) == words()


async def test_who_does_not_iterate_is_sent_no_more_than_the_window():
    """Acknowledgements follow the caller, not the network."""
    agent = Stepped()
    async with chatting(agent, ws=WsConfig(window=3)) as (peer, _, chat):
        turn = await chat.send("s", "a b c d")
        agent.step(4)
        await peer.pool.wait(turn.id)
        events = await to_end(chat)
        assert text(events) == "abcd"
        assert len(events) <= 5


async def test_a_refused_turn_is_raised_where_it_was_sent():
    """The problem has all its fields, and the chat goes on."""
    async with chatting() as (_, _, chat):
        with pytest.raises(ProblemError) as caught:
            await chat.send("s", "hi", agent="nobody")
        assert caught.value.code == "not_found"
        await chat.send("s", "hi")
        assert (await to_end(chat))[-1].turn.output == "echo: hi"


async def test_a_turn_can_be_cancelled():
    """Cancel gives the turn; its end is an event like any other."""
    agent = Held()
    async with chatting(agent) as (_, _, chat):
        turn = await chat.send("s", "x")
        await agent.running.wait()
        assert (await chat.cancel(turn.id)).state == "cancelled"
        assert (await to_end(chat))[-1].turn.state == "cancelled"


@pytest.mark.parametrize(("verb", "output"), [("approve", "paid"), ("deny", "not paid")])
async def test_a_waiting_call_can_be_decided(verb, output):
    """A request for approval is answered over the same chat."""
    async with chatting(asking()) as (peer, _, chat):
        turn = await chat.send("s", "pay")
        async for event in chat:
            if isinstance(event, ApprovalRequested):
                break
        await peer.pool.wait(turn.id, until_paused=True)
        await getattr(chat, verb)(turn.id, event.call_id, reason="because")
        assert (await to_end(chat))[-1].turn.output == output


async def test_sessions_can_be_read_and_left():
    """Subscribe reads from now or after a cursor; after unsubscribe nothing comes."""
    async with chatting() as (peer, _, chat):
        await peer.pool.ask("1", session="s")
        await chat.subscribe("s")
        await peer.pool.ask("2", session="s")
        assert (await to_end(chat))[-1].turn.output == "echo: 2"
        await chat.subscribe("s", after="0-0")
        assert (await to_end(chat))[-1].turn.output == "echo: 1"
        assert (await to_end(chat))[-1].turn.output == "echo: 2"
        await chat.unsubscribe("s")
        assert chat.cursors == {}
        await peer.pool.ask("3", session="s")
        await chat.send("t", "4")
        assert (await to_end(chat))[-1].turn.output == "echo: 4"


async def test_a_chat_goes_on_where_another_ended():
    """The cursors of one chat are where the next begins."""
    async with serving() as peer, Client(peer.server.url) as client:
        async with client.chat() as chat:
            await chat.send("s", "1")
            await to_end(chat)
            cursors = chat.cursors
        await peer.pool.ask("2", session="s")
        async with client.chat(cursors) as chat:
            events = await to_end(chat)
            assert events[-1].turn.output == "echo: 2"
            assert len({event.turn_id for event in events}) == 1
        async with client.chat({"s": None}) as chat:
            await peer.pool.ask("3", session="s")
            assert (await to_end(chat))[-1].turn.output == "echo: 3"


@pytest.mark.parametrize("cut_after", [300, 600, 1_000, 1_700, 3_000])
async def test_a_chat_that_is_cut_again_and_again_loses_nothing(cut_after):
    """Wherever the connection breaks, no event is missing and none comes twice."""
    async with (
        serving(chatty) as peer,
        proxied(peer.server.port) as proxy,
        Client(proxy.url, random=Random(1)) as client,
    ):
        async with client.chat() as chat:
            await chat.send("s", "warm up")
            first = await to_end(chat)
            proxy.cut_after = cut_after
            proxy.cut()
            sent = asyncio.ensure_future(chat.send("s", "again"))

            async def mend():
                await proxy.connected(5)
                proxy.cut_after = None

            mending = asyncio.ensure_future(mend())
            second = await to_end(chat)
            await sent
            mending.cancel()
        assert text(second) == words()
        numbers = places(first + second)
        assert numbers == sorted(set(numbers))
        assert len((await peer.pool.messages("s", None, 10)).items) == 4


async def test_a_turn_whose_answer_is_lost_runs_once():
    """An unanswered turn is sent again with its key: the same turn, all of its events."""
    runs = []

    async def counting(given):
        runs.append(given)
        return given

    async with chatting(counting) as (_, proxy, chat):
        proxy.stop_forwarding()
        sent = asyncio.ensure_future(chat.send("s", "x"))
        await asyncio.wait([sent], timeout=0.05)
        proxy.cut()
        proxy.forward()
        assert (await sent).session_id == "s"
        events = await to_end(chat)
        assert events[-1].turn.output == "x"
        assert runs == ["x"]
        assert places(events) == sorted(set(places(events)))


async def test_a_break_right_after_the_answer_loses_no_event():
    """Accepted, and cut before the first event of a new session: it comes from its beginning."""
    agent = Held()
    async with chatting(agent) as (_, proxy, chat):
        # the client has the answer and nothing else
        turn = await chat.send("s", "x")
        proxy.cut()
        await agent.running.wait()
        await proxy.connected(2)
        agent.release.set()
        events = await to_end(chat)
        assert type(events[0]).__name__ == "TurnQueued"
        assert {event.turn_id for event in events} == {turn.id}
        assert events[-1].turn.output == "late: x"


async def test_a_chat_waits_for_a_server_that_is_away():
    """What is sent meanwhile is sent when it is back."""
    async with chatting() as (_, proxy, chat):
        proxy.refuse()
        sent = asyncio.ensure_future(chat.send("s", "x"))
        await proxy.connected(3)
        assert not sent.done()
        proxy.accept()
        await sent
        assert (await to_end(chat))[-1].turn.output == "echo: x"


async def test_a_server_that_stays_away_ends_the_chat():
    """After the time to try, everything that waits is told, and the iteration raises."""
    async with (
        serving() as peer,
        proxied(peer.server.port) as proxy,
        Client(proxy.url, retry_for_s=0.3) as client,
        client.chat() as chat,
    ):
        proxy.refuse()
        with pytest.raises(ConnectionLost):
            await chat.send("s", "x")
        with pytest.raises(ConnectionLost):
            await anext(chat)
        with pytest.raises(ConnectionLost):
            await chat.send("s", "x")


async def test_a_server_that_is_not_there_is_told_at_the_beginning():
    """Entering the chat raises."""
    async with serving() as peer:
        url = peer.server.url
    async with Client(url, retry_for_s=0.1) as client:
        with pytest.raises(ConnectionLost):
            async with client.chat():
                pass


async def test_a_silent_server_is_left_and_found_again():
    """When not even pings come, the chat connects anew."""
    config = WsConfig(heartbeat_s=0.1, close_grace_s=0.1)
    async with chatting(ws=config) as (_, proxy, chat):
        await chat.send("s", "1")
        await to_end(chat)
        proxy.stop_forwarding()
        sent = asyncio.ensure_future(chat.send("s", "2"))
        await proxy.connected(2)
        proxy.forward()
        await sent
        assert (await to_end(chat))[-1].turn.output == "echo: 2"


async def test_a_slow_chat_that_is_closed_goes_on_by_itself():
    """Closed with 4008 for being too slow, the chat resumes and misses nothing."""
    config = WsConfig(window=2, high_water_events=20, heartbeat_s=0.32)
    async with chatting(chatty, ws=config) as (peer, proxy, chat):
        turn = await chat.send("s", "go")
        await peer.pool.wait(turn.id)
        await proxy.connected(2)
        assert text(await to_end(chat)) == words()


async def test_a_drained_server_is_left_and_found_again():
    """After a goodbye the chat stays away as long as asked, and goes on at the next server."""
    agent = Held()
    async with serving(agent) as peer:
        peer.server.connections.goodbye("moving", 0.05)
        async with Client(peer.server.url, random=Random(1)) as client, client.chat() as chat:
            await chat.send("s", "x")
            await agent.running.wait()
            await peer.server.connections.close()
            agent.release.set()
            assert (await to_end(chat))[-1].turn.output == "late: x"


async def test_the_key_of_the_client_is_that_of_its_chat():
    """With the right key the chat is open; with a wrong one, or without, there is none."""
    async with serving(auth=WITH_KEYS) as peer:
        made = await ApiKeys(peer.pool.store).create()
        async with Client(peer.server.url, api_key=made.text) as client, client.chat() as chat:
            await chat.send("s", "hi")
        async with Client(peer.server.url, api_key=made.text + "x") as client:
            with pytest.raises(ProblemError) as refused:
                async with client.chat():
                    pass
            assert (refused.value.status, refused.value.code) == (401, "unauthenticated")
        async with Client(peer.server.url) as client:
            with pytest.raises(ClosedByServer) as caught:
                async with client.chat():
                    pass
            assert caught.value.code == 4401


async def test_a_final_close_ends_the_iteration_with_its_code():
    """When the server closes for good, whoever waits is told why."""
    store = MemoryStore()
    made = await ApiKeys(store).create()
    async with (
        serving(auth=WITH_KEYS, store=store) as peer,
        Client(peer.server.url, api_key=made.text) as client,
        client.chat() as chat,
    ):
        await chat.send("s", "hi")
        await to_end(chat)
        waiting = asyncio.ensure_future(anext(chat))
        await asyncio.wait([waiting], timeout=0.01)
        await ApiKeys(store).revoke(made.key.id)
        await peer.server.authenticator.refresh()
        with pytest.raises(ClosedByServer) as caught:
            await waiting
        assert caught.value.code == 4401
        assert "withdrawn" in caught.value.reason
        with pytest.raises(ClosedByServer):
            await chat.cancel("t")


async def test_a_refused_handshake_ends_the_chat_at_once():
    """What the server refuses before the upgrade is a problem, and not tried again."""
    async with serving() as peer, Client(peer.server.url + "/nothing") as client:
        with pytest.raises(ProblemError) as caught:
            async with client.chat():
                pass
        assert caught.value.status == 404


async def test_a_session_that_is_gone_is_told_and_the_others_go_on():
    """A problem with one session is raised by the iteration, which can go on."""
    async with (
        serving() as peer,
        Client(peer.server.url) as client,
        client.chat({"gone": "1-1"}) as chat,
    ):
        with pytest.raises(ProblemError) as caught:
            await anext(chat)
        assert caught.value.code == "not_found"
        assert chat.cursors == {}
        await chat.send("s", "hi")
        assert (await to_end(chat))[-1].turn.output == "echo: hi"


async def test_a_frame_too_large_is_refused_before_it_ends_the_chat():
    """The chat knows how much the server takes."""
    async with chatting(ws=WsConfig(max_frame_bytes=1_000)) as (_, _, chat):
        with pytest.raises(ProblemError) as caught:
            await chat.send("s", "x" * 2_000)
        assert caught.value.code == "too_large"
        await chat.send("s", "x")
        assert (await to_end(chat))[-1].turn.output == "echo: x"


async def test_a_closed_chat_ends_its_iteration():
    """Close ends what waits: the iteration quietly, commands with an error."""
    agent = Held()
    async with chatting(agent) as (_, _, chat):
        assert repr(chat).endswith("[connected, <Ledger 0 sessions, 0 unanswered>]>")
        waiting = asyncio.ensure_future(_collect(chat))
        await asyncio.wait([waiting], timeout=0.01)
        await chat.close()
        await chat.close()
        assert await waiting == []
        with pytest.raises(ConnectionLost):
            await chat.send("s", "x")


async def _collect(chat):
    return [event async for event in chat]
