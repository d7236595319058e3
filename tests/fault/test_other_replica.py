"""Whichever replica a client talks to, it is the same server: turns run elsewhere, on one Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.fault.audit import audit, opened
from tests.fault.clients import Caller, calling, eventually
from tests.fault.replicas import Fleet, fleet
from tests.fault.seen import Seen, place_of
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(20)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two replicas for all tests here; each test has sessions and gates of its own."""
    home = tmp_path_factory.mktemp("both")
    with redis_server() as redis, fleet(2, redis.url, home) as replicas:
        yield replicas


async def held(caller: Caller, session: str, text: str = "") -> str:
    """A turn that runs at the first replica and waits at the gate of its session."""
    turn = await caller.submit(session, f"hold={session} {text}", at=caller.fleet[0])
    await caller.begun(turn)
    return turn


async def test_a_turn_is_waited_for_elsewhere(both: Fleet) -> None:
    """Waiting for a turn, and the transcript after it, are the same at both replicas."""
    async with calling(both) as caller:
        turn = await held(caller, "wait", "say=3")
        waiting = asyncio.create_task(caller.ended(turn, at=both[1]))
        both.runs.open("wait")
        there = await waiting
        assert there["state"] == "completed" and there["output"] == "held.word0 word1 word2 "
        assert there == await caller.turn(turn, at=both[0])
        for replica in both:
            path = f"{replica.url}/v1/sessions/wait/messages"
            reply = await caller.call("GET", path)
            assert [m["content"] for m in reply.body["messages"]] == [
                "hold=wait say=3",
                "held.word0 word1 word2 ",
            ]


async def test_a_turn_is_watched_live_elsewhere(both: Fleet) -> None:
    """A stream at the other replica has the first words while the turn still runs, then the rest,
    once each.
    """
    async with calling(both) as caller:
        turn, seen = await held(caller, "live", "say=20:5"), Seen()
        reading = asyncio.create_task(caller.read(turn, seen, at=both[1]))

        async def words() -> bool:
            return seen.said(turn) == "held."

        await eventually(words, "the first words are seen elsewhere", patience_s=2)
        both.runs.open("live")
        await reading
        assert seen.said(turn) == "held." + "".join(f"word{n} " for n in range(20))
        await audit(both.store, both.runs, accepted=[turn], seen=[seen])


async def test_a_stream_resumes_at_every_replica(both: Fleet) -> None:
    """A reader that leaves after every few events and goes on elsewhere misses and repeats none."""
    async with calling(both) as caller:
        turn, seen = await held(caller, "resume", "say=40:5 tool"), Seen()
        both.runs.open("resume")
        await caller.read(turn, seen, leaves=lambda: len(seen.events) % 3 == 0)
        assert caller.reconnects > 3
        await audit(both.store, both.runs, accepted=[turn], seen=[seen])


async def test_a_running_turn_is_cancelled_elsewhere(both: Fleet) -> None:
    """Cancel at the other replica ends the turn, with what was said, within a lease."""
    async with calling(both) as caller:
        turn = await held(caller, "cancel")
        reply = await caller.call("POST", f"{both[1].url}/v1/turns/{turn}/cancel")
        assert reply.status in (200, 202), reply
        there = await caller.ended(turn, at=both[1])
        assert (there["state"], there["output"]) == ("cancelled", "held.")
        again = await caller.call("POST", f"{both[1].url}/v1/turns/{turn}/cancel")
        assert (again.status, again.body) == (200, there)


async def test_a_waiting_turn_is_cancelled_elsewhere(both: Fleet) -> None:
    """A turn that is still in the line of its session is cancelled without ever running."""
    async with calling(both) as caller:
        first = await held(caller, "line")
        second = await caller.submit("line", "say=1", at=both[0])
        await caller.call("POST", f"{both[1].url}/v1/turns/{second}/cancel")
        assert (await caller.ended(second, at=both[1]))["state"] == "cancelled"
        both.runs.open("line")
        assert (await caller.ended(first, at=both[1]))["state"] == "completed"
        assert both.runs.of(second) == []


@pytest.mark.parametrize(("decision", "said"), [("approve", "[allow]"), ("deny", "[deny]")])
async def test_a_call_is_decided_elsewhere(both: Fleet, decision: str, said: str) -> None:
    """The turn shows its pending call at the other replica, is decided there, once, and goes on."""
    async with calling(both) as caller:
        turn = await caller.submit(f"decide-{decision}", "say=1 ask say=1", at=both[0])
        waiting = await caller.comes_to(turn, "waiting", at=both[1])
        assert [call["name"] for call in waiting["pending"]] == ["announce"]
        path = f"{both[1].url}/v1/turns/{turn}/approvals/asked"
        reply = await caller.call("POST", path, {"decision": decision})
        assert reply.status == 200, reply
        done = await caller.ended(turn, at=both[1])
        assert (done["state"], done["output"]) == ("completed", f"word0 {said}word0 ")
        for replica in both:
            again = f"{replica.url}/v1/turns/{turn}/approvals/asked"
            assert (await caller.call("POST", again, {"decision": decision})).status == 409


async def test_of_two_decisions_at_once_one_counts(both: Fleet) -> None:
    """Approve here and deny there at the same moment: one is taken, the other is a conflict."""
    async with calling(both) as caller:
        turn = await caller.submit("race", "ask", at=both[0])
        await caller.comes_to(turn, "waiting", at=both[1])
        replies = await asyncio.gather(
            *(
                caller.call(
                    "POST",
                    f"{replica.url}/v1/turns/{turn}/approvals/asked",
                    {"decision": decision},
                )
                for replica, decision in zip(both, ("approve", "deny"), strict=True)
            )
        )
        assert sorted(reply.status for reply in replies) == [200, 409]
        taken = "[allow]" if replies[0].status == 200 else "[deny]"
        assert (await caller.ended(turn, at=both[1]))["output"] == taken


async def test_a_busy_session_queues_elsewhere(both: Fleet) -> None:
    """Turns accepted now here, now there run one after another in the order of acceptance."""
    async with calling(both) as caller:
        turns = [await held(caller, "queue")]
        for number in range(8):
            turn = await caller.submit("queue", f"{number} say=2", at=both[number % 2])
            turns.append(turn)
        both.runs.open("queue")
        for turn in turns:
            assert (await caller.ended(turn, at=both[1]))["state"] == "completed"
        ran = [run.turn_id for run in both.runs.all() if run.session_id == "queue"]
        assert ran == turns
        await audit(both.store, both.runs, accepted=turns)


async def test_a_busy_session_rejects_elsewhere(both: Fleet) -> None:
    """`if_busy: reject` is refused by the replica that does not run the turn, and keeps nothing."""
    async with calling(both) as caller:
        turn = await held(caller, "reject")
        path = f"{both[1].url}/v1/sessions/reject/turns"
        reply = await caller.call("POST", path, {"input": "x", "if_busy": "reject"})
        assert (reply.status, reply.body["code"]) == (409, "session_busy")
        both.runs.open("reject")
        await caller.ended(turn, at=both[1])
        assert len(await caller.messages("reject")) == 2


@pytest.mark.parametrize(
    ("if_busy", "state", "kept"), [("interrupt", "interrupted", 4), ("rollback", "cancelled", 2)]
)
async def test_a_running_turn_makes_way_elsewhere(
    both: Fleet, if_busy: str, state: str, kept: int
) -> None:
    """`interrupt` and `rollback` at the other replica end the running turn and go next."""
    async with calling(both) as caller:
        first = await held(caller, if_busy)
        later = await caller.submit(if_busy, "later", at=both[0])
        urgent = await caller.submit(if_busy, "say=1", at=both[1], if_busy=if_busy)
        assert (await caller.ended(urgent, at=both[1]))["state"] == "completed"
        assert (await caller.ended(first, at=both[1]))["state"] == state
        await caller.ended(later, at=both[1])
        ran = [run.turn_id for run in both.runs.all() if run.session_id == if_busy]
        assert ran == [first, urgent, later]
        messages = await caller.messages(if_busy)
        assert len(messages) == kept + 1, messages


async def test_a_websocket_reads_what_runs_elsewhere(both: Fleet) -> None:
    """A WebSocket of one replica carries a session that another runs: live, and to the end."""
    async with calling(both) as caller:
        turn, seen = await held(caller, "socket", "say=10:5"), Seen()
        url = f"{both[1].url}/v1/ws"
        async with caller.http.ws_connect(url, protocols=("actorpool.v1",)) as socket:
            await socket.send_json({"type": "hello", "sessions": {"socket": "0-0"}})
            assert (await socket.receive_json())["type"] == "welcome"
            while seen.said(turn) != "held.":
                seen.take((await socket.receive_json(timeout=2))["event"])
            both.runs.open("socket")
            while seen.ending(turn) is None:
                seen.take((await socket.receive_json(timeout=2))["event"])
        await audit(both.store, both.runs, accepted=[turn], seen=[seen])


async def test_what_is_accepted_while_a_session_is_let_go_runs(both: Fleet) -> None:
    """Each turn is sent to the other replica the moment the one before it has ended: none is left
    lying, and epochs never fall.
    """
    async with calling(both) as caller:
        turns, epochs = [], []
        for number in range(30):
            url = f"{both[number % 2].url}/v1/sessions/passing/turns"
            reply = await caller.call("POST", url, {"input": f"{number} say=1"}, timeout_s=3)
            assert (reply.status, reply.body["state"]) == (200, "completed"), reply
            turns.append(reply.body["id"])
        async with opened(both.store) as store:
            for turn in turns:
                start = await store.turn_start(turn)
                assert start is not None
                epochs.append(start.epoch)
        assert epochs == sorted(epochs)
        await audit(both.store, both.runs, accepted=turns)


async def test_sessions_of_both_replicas_are_listed_by_both(both: Fleet) -> None:
    """What one replica made, the other lists, and forgets."""
    async with calling(both) as caller:
        made = await caller.call("POST", f"{both[0].url}/v1/sessions", {"session_id": "made"})
        assert made.status == 201
        listed = await caller.call("GET", f"{both[1].url}/v1/sessions?limit=1000")
        assert "made" in [each["id"] for each in listed.body["sessions"]]
        assert (await caller.call("DELETE", f"{both[1].url}/v1/sessions/made")).status == 204
        assert (await caller.call("GET", f"{both[0].url}/v1/sessions/made")).status == 404


async def test_a_session_stream_from_a_cursor_has_no_gap_elsewhere(both: Fleet) -> None:
    """The session's stream, resumed at the other replica, is dense over both replicas' turns."""
    async with calling(both) as caller:
        for number in range(4):
            turn = await caller.submit("dense", f"{number} say=4:2", at=both[number % 2])
            await caller.ended(turn, at=both[0])
        for replica in both:
            seen = Seen()
            seen.cursor = "0-0"
            url = f"{replica.url}/v1/sessions/dense/events"
            while seen.ending(turn) is None:
                await caller.read_once(url, seen, leaves=lambda: True)
            places = [place_of(event["id"])[1] for event in seen.events]
            assert seen.wrongs == [] and places == sorted(set(places)) and seen.losses == 0


async def test_the_pool_shows_every_replica(both: Fleet) -> None:
    """`GET /v1/pool` of either replica names both."""
    async with calling(both) as caller:

        async def shown() -> bool:
            found = [await caller.call("GET", f"{each.url}/v1/pool") for each in both]
            names = [
                {reply.body["name"], *(each["name"] for each in reply.body["replicas"])}
                for reply in found
            ]
            return names[0] == names[1] and len(names[0]) == 2

        # they tell of themselves about once a second
        await eventually(shown, "both replicas know of each other")
