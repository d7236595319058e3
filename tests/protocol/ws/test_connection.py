from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec, PoolConfig
from pool.errors import StoreUnavailable
from pool.store.base import SessionKey
from pool.store.memory import MemoryStore
from pool.turn import ANYONE
from protocol.ws.config import WsConfig
from tests.support.call_ids import CALL_IDS, NO_CALL_IDS
from tests.support.serving import serving
from tests.support.serving_agents import Asking, Held, Stepped, asking, failing
from tests.support.sockets import connected, serving_from, talking, wired

pytestmark = pytest.mark.real_time(10)


def types(events):
    """What kinds of events these are."""
    return [event["type"] for event in events]


async def quiet(talk):
    """Nothing is on its way: the answer to a ping is the next frame."""
    await talk.say("ping")
    frame = await talk.hear()
    assert frame["type"] == "pong", frame


async def test_welcome_says_what_holds():
    """The answer to hello has the connection's id, the heartbeat, the largest frame, the window."""
    async with serving(ws=WsConfig(window=7)) as peer, connected(peer) as talk:
        welcome = await talk.ask("hello", ref="h")
        connection_id = welcome.pop("connection_id")
        assert len(connection_id) == 16
        assert welcome == {
            "type": "welcome",
            "ref": "h",
            "heartbeat_s": 30.0,
            "max_frame_bytes": 1_048_576,
            "window": 7,
        }


async def test_a_turn_is_accepted_and_then_told():
    """`accepted` repeats the ref and has the turn; then come all its events, in order."""
    async with serving() as peer, talking(peer) as talk:
        await talk.say("turn", ref=1, session_id="s", input="hi", metadata={"a": 1})
        accepted = await talk.hear()
        assert accepted["type"] == "accepted"
        assert accepted["ref"] == 1
        assert accepted["turn"]["session_id"] == "s"
        assert accepted["turn"]["input"] == "hi"
        assert accepted["turn"]["metadata"] == {"a": 1}
        events = await talk.to_end()
        assert types(events) == ["turn.queued", "turn.started", "text.delta", "turn.completed"]
        assert events[-1]["turn"]["output"] == "echo: hi"
        assert {event["turn_id"] for event in events} == {accepted["turn"]["id"]}


async def test_a_second_turn_of_a_session_is_told_on_the_same_subscription():
    """The accepted of every turn precedes its events, also where the session is read already."""
    async with serving() as peer, talking(peer) as talk:
        for number in range(20):
            await talk.say("turn", ref=number, session_id="s", input=f"{number}")
            accepted = await talk.hear()
            assert accepted["type"] == "accepted"
            events = await talk.to_end()
            assert events[0]["turn_id"] == accepted["turn"]["id"]
            assert events[-1]["turn"]["output"] == f"echo: {number}"


async def test_several_sessions_share_a_connection():
    """Events of different sessions come side by side, each with its session's id."""
    async with serving() as peer, talking(peer) as talk:
        for name in ("a", "b", "c"):
            await talk.say("turn", session_id=name, input=name)
        outputs: dict[str, str] = {}
        while len(outputs) < 3:
            frame = await talk.hear()
            if frame["type"] == "event" and "turn" in frame["event"]:
                outputs[frame["event"]["session_id"]] = frame["event"]["turn"]["output"]
        assert outputs == {name: f"echo: {name}" for name in ("a", "b", "c")}


async def test_a_failed_turn_is_told_and_the_socket_stays_open():
    """How a turn fails is an event; what its exception said is not in it."""
    async with serving(failing) as peer, talking(peer) as talk:
        await talk.say("turn", session_id="s", input="secret")
        await talk.hear()
        events = await talk.to_end()
        assert events[-1]["type"] == "turn.failed"
        assert "hunter2" not in str(events)
        await quiet(talk)


async def test_a_refused_turn_is_an_error_with_its_ref():
    """What the pool refuses is a problem; the session is not read then."""
    async with serving() as peer, talking(peer) as talk:
        answer = await talk.ask("turn", ref="x", session_id="s", input="hi", agent="nobody")
        assert answer["type"] == "error"
        assert answer["ref"] == "x"
        assert answer["error"]["code"] == "not_found"
        assert answer["error"]["request_id"] == talk.welcome["connection_id"]
        assert "session_id" not in answer
        await quiet(talk)


async def test_a_full_pool_says_when_to_come_back():
    """An overload is retryable and says after how long."""
    agent = Held()
    spec = AgentSpec(agent=agent, max=1)
    async with serving(spec, pool=PoolConfig(queue_max=1)) as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="a", input="1")
        await agent.running.wait()
        await talk.ask("turn", session_id="b", input="2")
        answer = await talk.ask("turn", session_id="c", input="3")
        assert answer["error"]["retryable"] is True
        assert answer["error"]["retry_after_s"] >= 0
        agent.release.set()


async def test_the_same_idempotency_key_is_the_same_turn():
    """A turn sent again is accepted as the one it was; another request with its key is refused."""
    async with serving() as peer, talking(peer) as talk:
        turn = {"session_id": "s", "input": "hi", "idempotency_key": "k"}
        first = await talk.ask("turn", **turn)
        await talk.to_end()
        again = await talk.ask("turn", **turn)
        assert again["turn"]["id"] == first["turn"]["id"]
        assert again["turn"]["state"] == "completed"
        other = await talk.ask("turn", **{**turn, "input": "bye"})
        assert other["error"]["code"] == "idempotency_mismatch"
        await quiet(talk)


async def test_a_turn_sent_again_on_a_new_connection_is_told_from_its_first_event():
    """Who lost the answer to a turn sends it again, and misses nothing of it."""
    async with serving() as peer:
        turn = {"session_id": "s", "input": "hi", "idempotency_key": "k"}
        async with talking(peer) as talk:
            await talk.ask("turn", **turn)
            first = await talk.to_end()
        async with talking(peer) as talk:
            await talk.ask("turn", **turn)
            assert await talk.to_end() == first


async def test_cancel_is_accepted_with_the_turn():
    """A cancelled turn ends, and its end is told."""
    agent = Held()
    async with serving(agent) as peer, talking(peer) as talk:
        turn = (await talk.ask("turn", session_id="s", input="hi"))["turn"]
        await agent.running.wait()
        answer = await talk.ask("cancel", ref="c", turn_id=turn["id"])
        assert answer["type"] == "accepted"
        assert answer["ref"] == "c"
        assert answer["turn"]["state"] == "cancelled"


async def test_cancelling_nothing_is_not_found():
    """A turn that does not exist, or is somebody else's, is an error."""
    async with serving() as peer, talking(peer) as talk:
        assert (await talk.ask("cancel", turn_id="nothing"))["error"]["code"] == "not_found"


async def approved(peer, talk, **decision):
    """The end of a turn whose call was decided so."""
    turn = (await talk.ask("turn", session_id="s", input="pay"))["turn"]
    while (event := await talk.event())["type"] != "approval.requested":
        pass
    assert event["arguments"] == {"euro": 5}
    await peer.pool.wait(turn["id"], until_paused=True)
    await talk.say("approve", ref="a", turn_id=turn["id"], call_id=event["call_id"], **decision)
    frames = [await talk.hear()]
    while "turn" not in frames[-1].get("event", {}):
        frames.append(await talk.hear())
    answers = [frame for frame in frames if frame["type"] == "accepted"]
    assert len(answers) == 1
    assert answers[0]["ref"] == "a"
    assert answers[0]["turn"]["id"] == turn["id"]
    return frames[-1]["event"]["turn"]["output"], turn["id"], event["call_id"]


async def test_an_approval_lets_the_turn_go_on():
    """A call that waits is approved over the same socket, and the turn goes on to its end."""
    async with serving(asking()) as peer, talking(peer) as talk:
        output, turn_id, call_id = await approved(
            peer, talk, decision="approve", arguments={"euro": 5}
        )
        assert output == "paid"
        decision = {"turn_id": turn_id, "call_id": call_id, "decision": "approve"}
        again = await talk.ask("approve", **{**decision, "decision": "deny"})
        assert again["error"]["code"] == "conflict"
        assert (await talk.ask("approve", **decision))["error"]["code"] == "conflict"
        repeated = await talk.ask("approve", **decision, idempotency_key="k")
        assert repeated["type"] == "accepted"
        swapped = {**decision, "arguments": {"euro": 500}, "idempotency_key": "k"}
        assert (await talk.ask("approve", **swapped))["error"]["code"] == "conflict"


async def test_a_denial_lets_the_turn_go_on_without():
    """A denied call is not made."""
    async with serving(asking()) as peer, talking(peer) as talk:
        assert (await approved(peer, talk, decision="deny", reason="no"))[0] == "not paid"


@pytest.mark.parametrize("call_id", CALL_IDS)
async def test_a_call_is_decided_by_whatever_its_provider_called_it(call_id):
    """The same ids as over HTTP."""
    async with serving(asking(call_id)) as peer, talking(peer) as talk:
        output, _, decided = await approved(peer, talk, decision="approve")
        assert (output, decided) == ("paid", call_id)


@pytest.mark.parametrize("call_id", NO_CALL_IDS)
async def test_what_is_no_id_of_a_call_is_a_mistake(call_id):
    """It is not looked up, and does not come back."""
    async with serving() as peer, talking(peer) as talk:
        answer = await talk.ask("approve", turn_id="t", call_id=call_id, decision="deny")
        assert answer["error"]["code"] == "invalid_request"
        assert [each["field"] for each in answer["error"]["errors"]] == ["call_id"]
        assert len(call_id) < 3 or call_id not in str(answer)


def test_the_asking_agent_keeps_a_state():
    """The agent of these tests says what format its state has."""
    assert Asking.state_format


async def test_subscribe_tells_what_comes_from_now_on():
    """Without a cursor a session is read from now; the answer says where that is."""
    async with serving() as peer, talking(peer) as talk:
        await peer.pool.ask("before", session="s")
        answer = await talk.ask("subscribe", ref="s", session_id="s")
        assert answer["cursor"] == (await peer.pool.session("s", principal=ANYONE)).cursor
        await peer.pool.ask("after", session="s")
        events = await talk.to_end()
        assert events[-1]["turn"]["output"] == "echo: after"


async def test_subscribe_after_a_cursor_tells_what_was_missed_then_what_comes():
    """A cursor is where reading goes on, without gap or repetition."""
    async with serving() as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="s", input="1")
        first = await talk.to_end()
        async with talking(peer) as other:
            await other.ask("subscribe", session_id="s", after=first[1]["id"])
            assert await other.to_end() == first[2:]
            await talk.ask("turn", session_id="s", input="2")
            assert await other.to_end() == await talk.to_end()


async def test_subscribing_again_changes_nothing_but_a_cursor_begins_anew():
    """Without a cursor the subscription stays as it is; with one it starts from there."""
    async with serving() as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="s", input="1")
        first = await talk.to_end()
        answer = await talk.ask("subscribe", session_id="s")
        assert answer["cursor"] == first[-1]["id"]
        await quiet(talk)
        answer = await talk.ask("subscribe", session_id="s", after="0-0")
        assert answer["cursor"] == "0-0"
        assert await talk.to_end() == first


async def test_after_unsubscribe_nothing_more_is_told():
    """The answer to unsubscribe is the last that is heard of a session; twice is no error."""
    async with serving() as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="s", input="1")
        await talk.to_end()
        for _ in range(2):
            assert (await talk.ask("unsubscribe", ref="u", session_id="s")) == {
                "type": "accepted",
                "ref": "u",
            }
        await peer.pool.ask("2", session="s")
        await quiet(talk)


async def test_an_unknown_session_is_an_error_with_its_id():
    """Subscribing to what does not exist names the session in the error."""
    async with serving() as peer, talking(peer) as talk:
        answer = await talk.ask("subscribe", ref="s", session_id="nothing")
        assert answer["ref"] == "s"
        assert answer["session_id"] == "nothing"
        assert answer["error"]["code"] == "not_found"


async def test_hello_goes_on_with_every_named_session():
    """After the welcome comes what was missed; an unknown session is an error of its own."""
    async with serving() as peer:
        async with talking(peer) as talk:
            await talk.ask("turn", session_id="a", input="1")
            first = await talk.to_end()
        await peer.pool.ask("2", session="b")
        named = {"a": first[0]["id"], "b": None, "gone": "1-1", "bad": "x"}
        async with talking(peer, hello={"sessions": named}) as talk:
            problems: dict[str, str] = {}
            events: list[dict[str, object]] = []
            while len(problems) < 2 or len(events) < 3:
                frame = await talk.hear()
                if frame["type"] == "error":
                    problems[frame["session_id"]] = frame["error"]["code"]
                else:
                    events.append(frame["event"])
            assert problems == {"gone": "not_found", "bad": "invalid_request"}
            assert events == first[1:]
            await peer.pool.ask("3", session="b")
            assert (await talk.to_end())[-1]["turn"]["output"] == "echo: 3"


async def test_a_connection_carries_so_many_sessions():
    """Past the limit a session is refused; after unsubscribing one there is room."""
    async with serving(ws=WsConfig(max_sessions=2)) as peer, talking(peer) as talk:
        for name in ("a", "b"):
            await talk.ask("turn", session_id=name, input="x")
            await talk.to_end()
        refused = await talk.ask("turn", session_id="c", input="x")
        assert refused["error"]["code"] == "too_large"
        await peer.pool.create_session("c")
        refused = await talk.ask("subscribe", session_id="c")
        assert refused["error"]["code"] == "too_large"
        assert refused["session_id"] == "c"
        await talk.ask("unsubscribe", session_id="a")
        assert (await talk.ask("subscribe", session_id="c"))["type"] == "accepted"


async def test_a_turn_of_a_socket_that_leaves_is_cancelled_if_it_was_to_be():
    """`on_disconnect: cancel` acts when the submitting socket ends, however it ends."""
    agent = Held()
    async with serving(agent) as peer:
        async with talking(peer) as talk:
            await talk.ask("turn", session_id="s", input="x", on_disconnect="cancel")
            await agent.running.wait()
        await agent.cancelled.wait()


async def test_a_turn_of_a_browser_that_goes_away_is_cancelled_if_it_was_to_be():
    """A browser closes with 1001, which is its own going and not the server's."""
    agent = Held()
    async with serving(agent) as peer:
        async with talking(peer) as talk:
            await talk.ask("turn", session_id="s", input="x", on_disconnect="cancel")
            await agent.running.wait()
            await talk.socket.close(code=1001)
        await agent.cancelled.wait()


async def test_turns_that_wait_behind_each_other_are_cancelled_together():
    """When their socket ends none of them is started, though the one before it has just ended."""
    agent = Held()
    turn = {"session_id": "s", "input": "x", "on_disconnect": "cancel"}
    async with serving(agent) as peer:
        async with talking(peer) as talk:
            accepted = [(await talk.ask("turn", **turn))["turn"] for _ in range(4)]
            await agent.running.wait()
        ended = [await peer.pool.wait(turn["id"]) for turn in accepted]
    assert [turn.state for turn in ended] == ["cancelled"] * 4
    assert [turn.attempt for turn in ended] == [1, 0, 0, 0]


async def test_a_turn_goes_on_without_its_socket_by_default():
    """A reader that leaves does not end the turn."""
    agent = Held()
    async with serving(agent) as peer:
        async with talking(peer) as talk:
            turn = (await talk.ask("turn", session_id="s", input="x"))["turn"]
            await agent.running.wait()
        agent.release.set()
        assert (await peer.pool.wait(turn["id"])).output == "late: x"


async def test_only_the_socket_that_submitted_a_turn_cancels_it():
    """Another that reads the session, or sent the same turn again, may leave."""
    agent = Held()
    turn = {"session_id": "s", "input": "x", "on_disconnect": "cancel", "idempotency_key": "k"}
    async with serving(agent) as peer, talking(peer) as first:
        accepted = (await first.ask("turn", **turn))["turn"]
        await agent.running.wait()
        async with talking(peer) as second:
            await second.ask("turn", **turn)
        while len(peer.server.connections) > 1:
            await peer.get("/health")
        agent.release.set()
        assert (await peer.pool.wait(accepted["id"])).state == "completed"


class SlowStore(MemoryStore):
    """A store whose `accept` waits to be let through, and whose reads can fail."""

    def __init__(self):
        super().__init__()
        self.suspends = True
        self.waiting = asyncio.Event()
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.broken = False

    async def accept(self, *args, **kwargs):
        if not self.open_gate.is_set():
            self.waiting.set()
            await self.open_gate.wait()
        return await super().accept(*args, **kwargs)

    async def session(self, key):
        if self.broken:
            raise StoreUnavailable("the store is away")
        return await super().session(key)

    async def events(self, key, after, limit):
        if self.broken:
            raise StoreUnavailable("the store is away")
        return await super().events(key, after, limit)


async def test_a_command_that_waits_holds_up_later_commands_but_no_events():
    """While a turn is being accepted, the running one streams on; answers stay in order."""
    agent = Stepped()
    store = SlowStore()
    async with serving_from(store, agent) as peer, talking(peer) as talk:
        await talk.ask("turn", session_id="s", input="a b")
        assert types([await talk.event(), await talk.event()]) == ["turn.queued", "turn.started"]
        store.open_gate.clear()
        await talk.say("turn", ref=2, session_id="s", input="c")
        await talk.say("ping", ref=3)
        await store.waiting.wait()
        agent.step()
        assert (await talk.event())["text"] == "a"
        agent.step()
        assert (await talk.event())["text"] == "b"
        assert (await talk.event())["type"] == "turn.completed"
        store.open_gate.set()
        assert (await talk.hear())["ref"] == 2
        assert (await talk.other_than("event"))["ref"] == 3
        agent.step()


async def test_a_socket_that_leaves_before_the_answer_still_cancels_its_turn():
    """The turn is accepted after its caller has gone: it is cancelled at once."""
    agent = Held()
    store = SlowStore()
    async with serving_from(store, agent) as peer:
        store.open_gate.clear()
        async with wired(peer.server.port) as wire:
            await wire.say("hello")
            await wire.say("turn", session_id="s", input="x", on_disconnect="cancel")
            await store.waiting.wait()
            wire.writer.transport.abort()
        while peer.server.connections:
            await peer.get("/health")
        store.open_gate.set()
        while not (turns := (await store.turns(SessionKey("default", "s"), None, 10)).items):
            await peer.get("/health")
        assert (await peer.pool.wait(turns[0].id)).state == "cancelled"


async def test_a_session_that_cannot_be_read_is_an_error_and_no_more():
    """When the store is away, the session is named in an error; others and the socket go on."""
    store = SlowStore()
    async with serving_from(store) as peer, talking(peer) as talk:
        await peer.pool.ask("1", session="s")
        store.broken = True
        answer = await talk.ask("subscribe", session_id="s")
        assert answer["error"]["code"] == "store_unavailable"
        assert answer["session_id"] == "s"
        await quiet(talk)


async def test_a_session_whose_past_cannot_be_read_is_unsubscribed():
    """A replay that fails half way says so, with the session's id; it can be subscribed again."""
    store = SlowStore()
    async with serving_from(store) as peer, talking(peer) as talk:
        await peer.pool.ask("1", session="s")
        await talk.ask("subscribe", session_id="s")
        store.broken = True
        assert (await talk.ask("subscribe", session_id="s", after="0-0"))["type"] == "accepted"
        failed = await talk.hear()
        assert failed["session_id"] == "s"
        assert failed["error"]["code"] == "store_unavailable"
        store.broken = False
        await talk.ask("subscribe", session_id="s", after="0-0")
        assert (await talk.to_end())[-1]["turn"]["output"] == "echo: 1"
