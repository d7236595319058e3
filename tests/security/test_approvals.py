"""A human's word is for one call, with the arguments that were shown, by who may give it.

FAULTS row 31 and check 16, over HTTP and over a WebSocket.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import pytest

from pool import AgentSpec, PoolConfig
from pool.agent import Context, Decision, ToolCall, TurnEnd, TurnInput
from pool.events import ToolCalled
from pool.guard.keys import ApiKeys
from pool.store.memory import MemoryStore
from tests.support.principals import Headers, guarded
from tests.support.serving import Peer, events
from tests.support.sockets import talking

pytestmark = pytest.mark.real_time(20)

ARGUMENTS: dict[str, Any] = {
    "to": "Zo\u00eb <zoe@example.org>",
    "euro": 5,
    "lines": [{"n": 1.5, "of": None}, True],
}
DOORS = ("http", "ws")


class Paying:
    """Pays what its input says, if it may. `paid` has what was paid; `swaps` other arguments for
    when it comes back with a human's word.
    """

    state_format = "paying/1"

    def __init__(self) -> None:
        self.paid: list[Any] = []
        self.swaps: Any = None

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Ask, or pay."""
        arguments = msgspec.json.decode(turn.input)
        if turn.resume and self.swaps is not None:
            arguments, self.swaps = self.swaps, None
        call = ToolCall("c1", "pay", arguments)
        decision = await ctx.gate(call)
        if decision.action == "ask":
            return TurnEnd("paused", state=b"asked")
        if decision.action == "allow":
            await ctx.emit(ToolCalled(call.call_id, call.name, call.arguments))
            self.paid.append(call.arguments)
        return TurnEnd(output=decision.action)


class Scene(NamedTuple):
    """A server, its agent, and the keys of everybody."""

    peer: Peer
    agent: Paying
    people: dict[str, Headers]

    async def ask(self, arguments: Any = ARGUMENTS) -> str:
        """The id of a turn of Ann that waits for a human."""
        body = {"input": msgspec.json.encode(arguments).decode()}
        answer = await self.peer.post("/v1/sessions/s/turns", body, headers=self.people["ann"])
        assert answer.status == 202, await answer.text()
        found = await answer.json()
        assert found["state"] == "waiting"
        return str(found["id"])

    async def turn(self, turn_id: str, wait_s: int = 0) -> Any:
        """The turn as Ann sees it; `wait_s`: once it has ended."""
        path = f"/v1/turns/{turn_id}?wait_s={wait_s}"
        return await (await self.peer.get(path, headers=self.people["ann"])).json()

    async def decide(
        self, door: str, who: str, turn_id: str, call_id: str = "c1", *, key: str = "", **more: Any
    ) -> int:
        """What somebody's decision is answered with; `key`: an idempotency key."""
        body = {"decision": "approve", **more}
        headers = self.people[who]
        if door == "http":
            path = f"/v1/turns/{turn_id}/approvals/{call_id}"
            headers = {**headers, "Idempotency-Key": key} if key else headers
            return (await self.peer.post(path, body, headers=headers)).status
        fields = {"turn_id": turn_id, "call_id": call_id, **body}
        async with talking(self.peer, headers=headers) as talk:
            if key:
                fields["idempotency_key"] = key
            answer = await talk.ask("approve", **fields)
        return 200 if answer["type"] == "accepted" else answer["error"]["status"]


@asynccontextmanager
async def scene(*deciders: str, ttl_s: float = 60) -> AsyncIterator[Scene]:
    """A server whose agent asks a human before it pays: one of these roles, if any are named."""
    agent, store = Paying(), MemoryStore()

    def ask(who: Any, call: ToolCall) -> Decision:
        return Decision("ask", risk="dangerous", deciders=deciders)

    spec = AgentSpec(agent=lambda: agent, gate=ask)
    config = PoolConfig(approval_ttl_s=ttl_s)
    async with guarded(spec, store=store, pool=config) as (peer, keys):
        made = ApiKeys(store)
        people: dict[str, Headers] = {"stranger": keys.of("rival", "admin")}
        for name, tenant, roles in (
            ("ann", "acme", ("user",)),
            ("bob", "acme", ("user",)),
            ("boss", "acme", ("user", "treasurer")),
            ("operator", "acme", ("operator",)),
            ("namesake", "rival", ("user",)),
        ):
            user = "ann" if name == "namesake" else name
            key = await made.create(tenant=tenant, user=user, roles=roles)
            people[name] = {"Authorization": f"Bearer {key.text}"}
        yield Scene(peer, agent, people)


@pytest.mark.parametrize("again", DOORS)
@pytest.mark.parametrize("door", DOORS)
async def test_an_approval_is_used_once(door, again):
    """Replayed, through whichever door, by whom it was or an operator, it is 409: paid once."""
    async with scene() as it:
        turn = await it.ask()
        assert await it.decide(door, "ann", turn) == 200
        for who in ("ann", "operator"):
            assert await it.decide(again, who, turn) == 409
            assert await it.decide(again, who, turn, decision="deny") == 409
        assert (await it.turn(turn, 5))["output"] == "allow"
        for who in ("ann", "operator"):
            assert await it.decide(again, who, turn) == 409
        assert it.agent.paid == [ARGUMENTS]


@pytest.mark.parametrize("door", DOORS)
async def test_of_many_decisions_at_once_one_counts(door):
    """Twenty clicks, half of them no: one is taken, and the tool does what that one said."""
    async with scene() as it:
        turn = await it.ask()
        words = ["approve", "deny"] * 10
        every = await asyncio.gather(
            *(it.decide(door, "ann", turn, decision=word) for word in words)
        )
        assert sorted(every) == [200] + [409] * 19
        ended = await it.turn(turn, 5)
        taken = words[every.index(200)]
        assert ended["output"] == {"approve": "allow", "deny": "deny"}[taken]
        assert it.agent.paid == [ARGUMENTS] * (taken == "approve")


SWAPPED: tuple[dict[str, Any], ...] = (
    {**ARGUMENTS, "euro": 5_000},
    {**ARGUMENTS, "to": "Eve"},
    {**ARGUMENTS, "more": 1},
    {"euro": 5},
    {},
    {**ARGUMENTS, "euro": "5"},
    {**ARGUMENTS, "lines": [{"n": 1.5}, True]},
)


@pytest.mark.parametrize("door", DOORS)
async def test_other_arguments_than_those_that_wait_are_not_approved(door):
    """They are 409, and nothing is decided; with those that were shown it is."""
    async with scene() as it:
        turn = await it.ask()
        for arguments in SWAPPED:
            assert await it.decide(door, "ann", turn, arguments=arguments) == 409
        (pending,) = (await it.turn(turn))["pending"]
        assert pending["arguments"] == ARGUMENTS
        assert it.agent.paid == []
        assert await it.decide(door, "ann", turn, arguments=pending["arguments"]) == 200
        assert (await it.turn(turn, 5))["output"] == "allow"
        assert it.agent.paid == [ARGUMENTS]


@pytest.mark.parametrize("arguments", SWAPPED, ids=range(len(SWAPPED)))
async def test_an_agent_that_swaps_the_arguments_has_to_ask_again(arguments):
    """What was approved was something else: a new question, with what it wants now."""
    async with scene() as it:
        turn = await it.ask()
        it.agent.swaps = arguments
        assert await it.decide("http", "ann", turn) == 200
        async with talking(it.peer, headers=it.people["ann"]) as talk:
            await talk.ask("subscribe", session_id="s", after="0-0")
            asked: list[Any] = []
            while len(asked) < 2:
                event = await talk.event()
                asked += [event] if event["type"] == "approval.requested" else []
        assert [event["arguments"] for event in asked] == [ARGUMENTS, arguments]
        assert it.agent.paid == []


@pytest.mark.parametrize("door", DOORS)
async def test_the_wrong_person_is_403_and_changes_nothing(door):
    """Another user of the tenant may see the turn and not decide; another tenant sees nothing."""
    async with scene() as it:
        turn = await it.ask()
        for who, status in (("bob", 403), ("boss", 403), ("stranger", 404), ("namesake", 404)):
            for word in ("approve", "deny"):
                assert await it.decide(door, who, turn, decision=word) == status, who
                assert await it.decide(door, who, turn, decision=word, key="k") == status, who
        assert len((await it.turn(turn))["pending"]) == 1
        assert await it.decide(door, "operator", turn, decision="deny") == 200
        assert (await it.turn(turn, 5))["output"] == "deny"
        # nor does it become theirs when it was decided
        assert await it.decide(door, "bob", turn) in (403, 409)
        assert it.agent.paid == []


@pytest.mark.parametrize("door", DOORS)
async def test_where_roles_are_named_nobody_else_decides(door):
    """Neither whoever asked, nor an operator: what is dangerous has four eyes."""
    async with scene("treasurer") as it:
        turn = await it.ask()
        for who, status in (("ann", 403), ("bob", 403), ("operator", 403), ("stranger", 404)):
            assert await it.decide(door, who, turn) == status, who
        assert await it.decide(door, "boss", turn) == 200
        assert (await it.turn(turn, 5))["output"] == "allow"


@pytest.mark.parametrize("door", DOORS)
async def test_a_lost_answer_is_asked_for_again_by_the_same_person_only(door):
    """With an idempotency key the same decision of the same person is no conflict; others are."""
    async with scene() as it:
        turn = await it.ask()
        assert await it.decide(door, "ann", turn, key="k") == 200
        assert await it.decide(door, "ann", turn, key="k") == 200
        assert await it.decide(door, "ann", turn, key="k", decision="deny") == 409
        assert await it.decide(door, "operator", turn, key="k") == 409
        assert await it.decide(door, "bob", turn, key="k") in (403, 409)
        await it.turn(turn, 5)
        assert it.agent.paid == [ARGUMENTS]


@pytest.mark.parametrize("door", DOORS)
async def test_an_approval_is_for_its_own_call_and_turn(door):
    """Another call, another turn, one that is over: 409, or 404 for what is not there."""
    async with scene() as it:
        first = await it.ask()
        assert await it.decide(door, "ann", first, "c2") == 409
        assert await it.decide(door, "ann", "Anothing", "c1") == 404
        assert await it.decide(door, "ann", first, decision="deny") == 200
        await it.turn(first, 5)
        second = await it.ask({"euro": 7})
        assert await it.decide(door, "ann", first) == 409
        assert len((await it.turn(second))["pending"]) == 1
        assert it.agent.paid == []


@pytest.mark.parametrize("door", DOORS)
async def test_an_approval_that_comes_too_late_is_409(door):
    """Nobody decided in time, so it was denied: it cannot be approved any more."""
    async with scene(ttl_s=0.05) as it:
        turn = await it.ask()
        assert (await it.turn(turn, 5))["output"] == "deny"
        assert await it.decide(door, "ann", turn) == 409
        assert it.agent.paid == []


async def test_whoever_approves_sees_the_exact_arguments():
    """Check 16: as a turn, as events over SSE and over a WebSocket the very ones the tool gets."""
    async with scene() as it:
        async with talking(it.peer, headers=it.people["operator"]) as talk:
            await it.peer.post("/v1/sessions", {"session_id": "s"}, headers=it.people["ann"])
            await talk.ask("subscribe", session_id="s")
            turn = await it.ask()
            shown = [(await it.turn(turn))["pending"][0]["arguments"]]
            event = await talk.event()
            while event["type"] != "approval.requested":
                event = await talk.event()
            shown.append(event["arguments"])
        assert await it.decide("http", "operator", turn) == 200
        await it.turn(turn, 5)
        path = f"/v1/turns/{turn}/events"
        stream = events(await (await it.peer.get(path, headers=it.people["ann"])).text())
        shown += [each["arguments"] for each in stream if "arguments" in each]
        assert [msgspec.json.encode(each) for each in shown] == [
            msgspec.json.encode(it.agent.paid[0])
        ] * 4
