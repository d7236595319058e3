"""Every accepted turn ends exactly once, gives back its permit, and says so in its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from pool import AgentPool, AgentSpec, TurnEnd, TurnInput
from pool.agent import Context, Decision, ToolCall
from pool.errors import PoolError
from pool.events import START, TextDelta
from pool.store.base import SessionKey
from pool.store.memory import MemoryStore
from pool.turn import IfBusy, Principal
from tests.support.agents import Scripted, collected, pooled, ticks, wall
from tests.support.stores import YieldingStore


async def anything(turn: TurnInput, ctx: Context) -> TurnEnd:
    """What the input says."""
    await ctx.emit(TextDelta("so far"))
    match turn.input:
        case "fails":
            raise ValueError
        case "crashes":
            raise SystemExit
        case "crashes once" if ctx.attempt == 1:
            raise SystemExit
        case "hangs":
            await asyncio.Event().wait()
        case "asks" if not turn.resume:
            await ctx.gate(ToolCall("c1", "pay"))
            return TurnEnd("paused", state=b"")
        case "stubborn":
            while not turn.input.isupper():
                try:
                    await asyncio.sleep(20)
                    break
                except asyncio.CancelledError:
                    continue
    await asyncio.sleep(1)
    return TurnEnd()


def ask_gate(principal: Principal, call: ToolCall) -> Decision:
    return Decision("ask")


def spec(**options: Any) -> AgentSpec:
    return AgentSpec(agent=Scripted(anything, state_format="t/1"), gate=ask_gate, **options)


@pytest.mark.parametrize(
    ("what", "cancelled_after_s", "ends"),
    [
        ("answers", None, "completed"),
        ("fails", None, "failed"),
        ("crashes", None, "failed"),
        ("crashes once", None, "completed"),
        ("hangs", None, "expired"),
        ("hangs", 0.0, "cancelled"),
        ("hangs", 2.0, "cancelled"),
        ("asks", None, "expired"),
        ("asks", 2.0, "cancelled"),
        ("stubborn", 2.0, "cancelled"),
        ("crashes once", 0.01, "cancelled"),
    ],
)
async def test_one_terminal_event_whatever_happens(
    what: str, cancelled_after_s: float | None, ends: str
) -> None:
    """One terminal event, the last one, of the state in the record; and nothing is left behind."""
    async with pooled({"a": spec()}, cancel_grace_s=5) as pool:
        turn = await pool.submit(what, session="s1", deadline_s=30)
        if cancelled_after_s is not None:
            await asyncio.sleep(cancelled_after_s)
            await asyncio.gather(pool.cancel(turn.id), pool.cancel(turn.id))
        ended = await pool.wait(turn.id)
        await asyncio.sleep(60)
        await ends_once(pool, "s1", {turn.id: ends})
        assert ended.state == ends and ended.finished_at is not None
        assert (await pool.cancel(turn.id)).state == ends


@pytest.mark.parametrize("suspends", [False, True])
async def test_a_thousand_turns_at_random_end_once_each(suspends: bool) -> None:
    """Any mixture of endings, priorities and policies, cancelled at any moment."""
    memory = MemoryStore(clock=wall)
    store = YieldingStore(memory) if suspends else memory
    random = Random(11)
    kinds = ("answers", "fails", "crashes once", "hangs", "asks", "stubborn")
    policies: tuple[IfBusy, ...] = ("queue", "queue", "queue", "interrupt", "rollback")
    config: dict[str, Any] = {"cancel_grace_s": 2, "restarts_max": 10_000, "backoff_max_s": 1.0}
    accepted: dict[str, str] = {}

    async def one(pool: AgentPool, n: int) -> None:
        await asyncio.sleep(n * 0.2)
        try:
            turn = await pool.submit(
                random.choice(kinds),
                session=f"s{random.randrange(25)}",
                if_busy=random.choice(policies),
                deadline_s=random.uniform(1, 120),
            )
        except PoolError:
            return
        accepted[turn.id] = turn.session_id
        if random.random() < 0.5:
            await asyncio.sleep(random.choice((0, 0, 1, random.uniform(0, 30))))
            await pool.cancel(turn.id)
        await pool.wait(turn.id)

    async with pooled({"a": spec(max=6)}, store=store, **config) as pool:
        await asyncio.gather(*[one(pool, n) for n in range(1_000)])
        await asyncio.sleep(120)
        assert len(accepted) > 400
        for n in range(25):
            ids = [turn_id for turn_id, session in accepted.items() if session == f"s{n}"]
            await ends_once(
                pool, f"s{n}", {turn_id: (await pool.turn(turn_id)).state for turn_id in ids}
            )


async def ends_once(pool: AgentPool, session: str, turns: dict[str, str]) -> None:
    """The session's log is dense, has one end for each turn, after which nothing of it follows."""
    log = (await pool.store.events(SessionKey("default", session), START, 100_000)).events
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    ended: list[str] = []
    for event in log:
        assert event.turn_id not in ended
        if event.terminal:
            ended.append(event.turn_id)
            assert event.type == f"turn.{turns[event.turn_id]}"
    assert sorted(ended) == sorted(turns)
    stats = pool.stats()
    assert (stats.turns, stats.sessions) == (0, 0)
    for agent in stats.agents:
        assert (agent.limit.held, agent.queued, agent.waiting, agent.actors.busy) == (0, 0, 0, 0)
        assert agent.actors.abandoned == 0


async def test_permits_are_given_back_while_others_wait_for_them() -> None:
    """Free plus held is the total at every tick, while turns end in every way."""
    async with pooled({"a": spec(min=4, max=4, limit_initial=2)}, cancel_grace_s=2) as pool:
        await ticks()
        kinds = ("answers", "fails", "crashes once", "hangs", "asks", "stubborn")
        turns = [await pool.submit(kinds[n % 6], deadline_s=40) for n in range(24)]
        limiter = pool._dispatchers["a"].limiter
        for _ in range(400):
            await asyncio.sleep(0.25)
            held = sum(turn.has_permit for turn in pool._turns.live.values())
            assert limiter.held == held <= limiter.limit
            assert limiter.free == limiter.limit - held
        for turn in turns:
            assert (await pool.turn(turn.id)).ended


def _held(pool: AgentPool) -> Callable[[], int]:
    return lambda: pool.stats().agents[0].limit.held


async def test_a_turn_that_waits_for_a_human_holds_no_permit_and_no_actor() -> None:
    """Neither does one that waits for its session."""
    async with pooled({"a": spec(max=1)}) as pool:
        assert (await pool.ask("asks", session="s1")).state == "waiting"
        await pool.submit("answers", session="s1")
        assert pool.stats().agents[0].actors.busy == 0 and _held(pool)() == 0
        assert (await pool.ask("answers", session="s2")).state == "completed"


async def test_events_of_a_cancelled_turn_are_readable() -> None:
    """What a cancelled turn had said is in its log and in its record."""
    async with pooled({"a": spec()}) as pool:
        turn = await pool.submit("hangs")
        await asyncio.sleep(1)
        await pool.cancel(turn.id)
        types = [event.type for event in await collected(pool.events(turn.id))]
        assert types == ["turn.queued", "turn.started", "text.delta", "turn.cancelled"]
        assert (await pool.turn(turn.id)).output == "so far"
