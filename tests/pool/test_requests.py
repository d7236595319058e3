"""What counts as a request under a caller's rates: whatever makes something, and once."""

from __future__ import annotations

import pytest

from pool import AgentPool
from pool.errors import (
    BudgetExceeded,
    Conflict,
    InvalidRequest,
    NotFound,
    PoolError,
    RateLimited,
    SessionBusy,
    StoreUnavailable,
)
from pool.guard.budget import Budget
from pool.guard.ledger import CostConfig
from pool.guard.quota import QuotaLimits
from pool.guard.rates import RatedRequest, RateLimit
from pool.store.memory import MemoryStore
from pool.turn import Principal, TurnRequest
from tests.support.agents import Held, pooled, wall
from tests.support.stores import FailingStore

ANN = Principal("acme", "ann")
BOB = Principal("acme", "bob")


def limited(amount: int, **more: object) -> CostConfig:
    """So many requests of a principal in an hour."""
    return CostConfig(rates=(RateLimit(amount=amount, window_s=3_600),), **more)  # type: ignore[arg-type]


async def echo(text: str) -> str:
    """Answer with what was asked."""
    return text


def left(request: RatedRequest) -> list[int]:
    """How many requests are left to whoever made one."""
    return [state.left for state in request.states]


def request_of(pool: AgentPool) -> RatedRequest:
    """One of Ann's."""
    request = pool.ledger.request(ANN)
    assert request is not None
    return request


async def test_sessions_forks_and_turns_count_alike() -> None:
    """Three of any kind are three requests; one more makes nothing, whatever it is."""
    async with pooled(echo, cost=limited(3)) as pool:
        await pool.create_session("s1", principal=ANN)
        await pool.fork_session("s1", "s2", principal=ANN)
        await pool.ask("hi", session="s1", principal=ANN)
        with pytest.raises(RateLimited) as info:
            await pool.create_session("s3", principal=ANN)
        with pytest.raises(RateLimited):
            await pool.fork_session("s1", "s3", principal=ANN)
        with pytest.raises(RateLimited):
            await pool.ask("hi", session="s3", principal=ANN)
        assert 0 < (info.value.retry_after_s or 0) <= 3_600
        assert [state.left for state in info.value.states] == [0]
        with pytest.raises(NotFound):
            await pool.session("s3", principal=ANN)
        await pool.create_session("s3", principal=BOB)


async def test_a_call_that_makes_a_session_and_a_turn_is_one_request() -> None:
    """And one step of the counts."""
    store = FailingStore(MemoryStore(clock=wall))
    async with pooled(echo, store=store, cost=limited(3)) as pool:
        request = request_of(pool)
        store.calls.clear()
        await pool.accept(TurnRequest(input="hi"), session="new", principal=ANN, rated=request)
        assert store.calls.count("count") == 1
    assert left(request) == [2]


async def test_who_may_ask_no_more_may_read_stop_and_forget() -> None:
    """What makes nothing is no request: the answers that were asked for can be had."""
    held = Held()
    async with pooled(held, cost=limited(1)) as pool:
        turn = await pool.submit("hi", session="s1", principal=ANN)
        await held.until_started(1)
        for _ in range(5):
            assert (await pool.session("s1", principal=ANN)).id == "s1"
            assert len((await pool.sessions(principal=ANN)).items) == 1
            await pool.messages("s1", principal=ANN)
            await pool.turn(turn.id, principal=ANN)
        assert (await pool.cancel(turn.id, principal=ANN)).state == "cancelled"
        await pool.delete_session("s1", principal=ANN)
        with pytest.raises(RateLimited):
            await pool.submit("hi", principal=ANN)


async def test_a_session_that_is_not_made_says_how_its_caller_stands() -> None:
    """It exists, or what it is made of does not: a request all the same. What is wrong in its form
    is none.
    """
    async with pooled(echo, cost=limited(4)) as pool:
        made = request_of(pool)
        await pool.create_session("s1", principal=ANN, rated=made)
        assert left(made) == [3]
        request = request_of(pool)
        with pytest.raises(InvalidRequest):
            await pool.create_session("no id", principal=ANN, rated=request)
        assert left(request) == []
        with pytest.raises(Conflict):
            await pool.create_session("s1", principal=ANN, rated=request)
        assert left(request) == [2]
        request = request_of(pool)
        with pytest.raises(NotFound):
            await pool.create_session(agent="none", principal=ANN, rated=request)
        assert left(request) == [1]
        request = request_of(pool)
        with pytest.raises(NotFound):
            await pool.fork_session("none", principal=ANN, rated=request)
        assert left(request) == [0]


async def test_a_session_that_cannot_be_counted_is_not_made() -> None:
    """Nobody knows whether there is room for it."""
    store = FailingStore(MemoryStore(clock=wall))
    async with pooled(echo, store=store, cost=limited(4)) as pool:
        store.fail("count", times=1)
        with pytest.raises(StoreUnavailable):
            await pool.create_session("s1", principal=ANN)
        with pytest.raises(NotFound):
            await pool.session("s1", principal=ANN)


@pytest.mark.parametrize(
    ("more", "cost", "error"),
    [
        ({}, {"budgets": (Budget(name="b", tokens=9, reserve_tokens=9),)}, BudgetExceeded),
        ({}, {"turns": QuotaLimits(each=1)}, RateLimited),
        ({"if_busy": "reject"}, {}, SessionBusy),
        ({"agent": "none"}, {}, NotFound),
    ],
    ids=["budget", "quota", "busy", "agent"],
)
async def test_a_refused_turn_says_how_its_caller_stands(
    more: dict[str, str], cost: dict[str, object], error: type[PoolError]
) -> None:
    """Whatever it was refused for."""
    held = Held()
    async with pooled(held, cost=limited(3, **cost)) as pool:
        await pool.submit("hi", session="s1", principal=ANN)
        asked = TurnRequest(input="hi", **more)  # type: ignore[arg-type]
        for number in (1, 0):
            request = request_of(pool)
            with pytest.raises(error):
                await pool.accept(asked, session="s1", principal=ANN, rated=request)
            assert left(request) == [number]
        request = request_of(pool)
        with pytest.raises(RateLimited):
            await pool.accept(asked, session="s1", principal=ANN, rated=request)
        assert left(request) == [0]
        await held.let_all()


async def test_turns_of_no_agent_cost_the_store_nothing_above_the_limit() -> None:
    """Nor do any others, once it is known that the window is full."""
    store = FailingStore(MemoryStore(clock=wall))
    async with pooled(echo, store=store, cost=limited(1)) as pool:
        for error in (NotFound, RateLimited):
            with pytest.raises(error):
                await pool.ask("hi", agent="none", principal=ANN)
        store.calls.clear()
        with pytest.raises(RateLimited):
            await pool.ask("hi", agent="none", principal=ANN)
        with pytest.raises(RateLimited):
            await pool.create_session("s1", principal=ANN)
        assert store.calls == []


async def test_a_store_that_is_away_is_not_asked_to_count() -> None:
    """Whoever waits for a refusal does not wait for it twice."""
    store = FailingStore(MemoryStore(clock=wall))
    async with pooled({"a": echo, "b": echo}, store=store, cost=limited(1)) as pool:
        store.calls.clear()
        store.fail("session", times=1)
        with pytest.raises(StoreUnavailable):
            await pool.ask("hi", session="s1", principal=ANN)
        assert store.calls == ["session"]
