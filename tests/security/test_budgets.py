"""Fifty at once on a budget for ten, through every door: never over it. FAULTS row 32."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pool import AgentSpec
from pool.agent import Context, TurnEnd, TurnInput
from pool.events import UsageReported
from pool.guard.budget import Budget
from pool.turn import Usage
from tests.support.agents import Scripted
from tests.support.costs import costs
from tests.support.principals import guarded
from tests.support.sockets import talking

pytestmark = pytest.mark.real_time(20)

AT_ONCE = 50
ROOM = 10
TOKENS = 100
BUDGET = Budget(name="team", scope="tenant", tokens=ROOM * TOKENS, reserve_tokens=TOKENS)


class Spender:
    """An agent that waits until all have been asked, then spends its tokens."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.runs = 0

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Spend."""
        self.runs += 1
        await self.go.wait()
        await ctx.emit(UsageReported(Usage(input_tokens=TOKENS, requests=1)))
        return TurnEnd(output="said")


async def turns(peer, headers, number):
    """Through the native door, in a session each."""
    path = f"/v1/sessions/s{number}/turns"
    return (await peer.post(path, {"input": "x"}, headers=headers)).status


async def one_session(peer, headers, number):
    """Through the native door, all in one session."""
    body = {"input": f"{number}", "if_busy": "queue"}
    return (await peer.post("/v1/sessions/s/turns", body, headers=headers)).status


async def jobs(peer, headers, number):
    """As jobs: those that are accepted are waited for."""
    later = {**headers, "Prefer": "respond-async"}
    answer = await peer.post(f"/v1/sessions/j{number}/turns", {"input": "x"}, headers=later)
    if answer.status != 202:
        return answer.status
    turn = (await answer.json())["id"]
    return (await peer.get(f"/v1/turns/{turn}?wait_s=10", headers=headers)).status


async def simple(peer, headers, number):
    """Through the simple door."""
    return (await peer.post("/agent/invoke", {"message": "x"}, headers=headers)).status


async def streamed(peer, headers, number):
    """As a stream."""
    return (await peer.post("/agent/stream", {"message": "x"}, headers=headers)).status


async def sockets(peer, headers, number):
    """Over a WebSocket each."""
    async with talking(peer, headers=headers) as talk:
        answer = await talk.ask("turn", session_id=f"w{number}", input="x")
        if answer["type"] == "error":
            return answer["error"]["status"]
        return 200 if (await talk.to_end())[-1]["type"] == "turn.completed" else 500


@pytest.mark.parametrize("door", [turns, one_session, jobs, simple, streamed, sockets])
async def test_parallel_turns_never_spend_more_than_there_is(door):
    """As many as there is room for are answered, all others are 402, and leave nothing set aside;
    another tenant's budget is its own.
    """
    agent = Spender()
    spec = AgentSpec(agent=Scripted(agent.run), max=AT_ONCE)
    async with guarded(spec, engine=costs(BUDGET)) as (peer, keys):
        headers = keys.of("acme")
        asked = [asyncio.create_task(door(peer, headers, n)) for n in range(AT_ONCE)]
        while sum(task.done() for task in asked) < AT_ONCE - ROOM:
            await asyncio.wait(
                [task for task in asked if not task.done()], return_when=asyncio.FIRST_COMPLETED
            )
        agent.go.set()
        statuses = Counter(await asyncio.gather(*asked))
        assert statuses == {200: ROOM, 402: AT_ONCE - ROOM}
        assert agent.runs == ROOM
        assert await door(peer, headers, AT_ONCE) == 402
        assert await door(peer, keys.of("rival"), AT_ONCE + 1) == 200
        team = await spent(peer, keys.of("acme", "operator"))
        while team["reserved"]:
            team = await spent(peer, keys.of("acme", "operator"))
        assert (team["spent"], team["limit"]) == (ROOM * TOKENS, ROOM * TOKENS)


async def spent(peer, headers):
    """How the budget stands for its tenant."""
    answer = await peer.get("/v1/budgets", headers=headers)
    (team,) = (await answer.json())["budgets"]
    return team["tokens"]
