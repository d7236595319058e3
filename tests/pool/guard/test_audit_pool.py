"""What the audit log notes of a pool: who asked, whose word it was, and what came of it."""

from __future__ import annotations

import asyncio

import pytest

from pool import AgentSpec, Principal
from pool.agent import Context, Decision, Gate, ToolCall, TurnEnd, TurnInput
from pool.errors import Conflict, Overloaded, StoreUnavailable
from pool.guard.audit_records import Record
from pool.store.memory import MemoryStore
from tests.pool.guard.test_audit import Slate, opened, whole
from tests.support.agents import Held, Scripted, pooled, wall
from tests.support.cluster import LEASE_S
from tests.support.stores import View

ANN = Principal("acme", "ann", ("user", "admin"))
BOSS = Principal("acme", "boss", ("user", "operator"))
SECRET = "canary-7f1c"


class Calling:
    """Asks its gate about one call of a tool, whose arguments are a secret."""

    def __init__(self, arguments: object = None) -> None:
        self.arguments: object = {"to": SECRET} if arguments is None else arguments

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        decision = await ctx.gate(ToolCall("c1", "mail", self.arguments))  # type: ignore[arg-type]
        return TurnEnd("paused" if decision.action == "ask" else "done", decision.action, b"s")


def calling(gate: Gate | None, arguments: object = None) -> AgentSpec:
    """An agent that calls, under a gate."""
    return AgentSpec(agent=Scripted(Calling(arguments).run, state_format="c/1"), gate=gate)


def deciding(action: str) -> Gate:
    """A gate that always says the same, and why in words that are nobody's business."""
    return lambda principal, call: Decision(action, SECRET)  # type: ignore[arg-type]


def noted(slate: Slate, action: str) -> list[Record]:
    """The records of an action."""
    return [record for record in slate.records if record.action == action]


async def test_an_accepted_turn_is_noted_once() -> None:
    """With who asked and the request's id; a repetition with the same key is nothing new."""
    slate = Slate()
    async with opened(slate) as audit, pooled(Held(), audit=audit) as pool:
        first = await pool.submit("x", idempotency_key="k", principal=ANN, request_id="r1")
        again = await pool.submit("x", idempotency_key="k", principal=ANN, request_id="r2")
        assert first.id == again.id
    (record,) = noted(slate, "turn.accept")
    assert (record.outcome, record.subject) == ("accepted", f"turn:{first.id}")
    assert (record.tenant, record.user, record.roles) == ("acme", "ann", ("user", "admin"))
    assert record.request_id == "r1"
    assert whole(slate)


async def test_a_refused_turn_is_noted_with_who_asked() -> None:
    """And the code of why; there is no turn to name."""
    slate = Slate()
    agent = Held()
    spec = AgentSpec(agent=agent, max=1)
    async with opened(slate) as audit, pooled({"a": spec}, audit=audit, queue_max=1) as pool:
        await pool.submit("one")
        await agent.until_started(1)
        await pool.submit("two")
        with pytest.raises(Overloaded):
            await pool.submit("three", principal=ANN, request_id="r3")
    record = noted(slate, "turn.accept")[-1]
    assert (record.outcome, record.reason, record.subject) == ("refused", "overloaded", "agent:a")
    assert (record.tenant, record.user, record.request_id) == ("acme", "ann", "r3")


@pytest.mark.parametrize(
    ("action", "outcome"), [("allow", "allowed"), ("deny", "denied"), ("ask", "asked")]
)
async def test_what_the_gate_says_is_noted(action: str, outcome: str) -> None:
    """For the principal of the turn, with a digest: neither arguments nor words are in the log."""
    slate = Slate()
    async with (
        opened(slate) as audit,
        pooled(calling(deciding(action)), audit=audit) as pool,
    ):
        turn = await pool.ask("x", principal=ANN, request_id="r1")
        digest = audit.digest({"to": SECRET})
    (record,) = noted(slate, "tool.call")
    assert (record.outcome, record.reason, record.arguments) == (outcome, "gate", digest)
    assert record.subject == f"turn:{turn.id} tool:mail"
    assert (record.user, record.request_id) == ("ann", "r1")
    assert SECRET.encode() not in b"".join(slate.lines)


async def test_a_call_that_no_human_is_asked_about_is_noted() -> None:
    """An agent without a gate of its own may call what the rules let it; the log has it."""
    slate = Slate()
    async with opened(slate) as audit, pooled(calling(None), audit=audit) as pool:
        await pool.ask("x", principal=ANN)
    (record,) = noted(slate, "tool.call")
    assert (record.outcome, record.reason) == ("allowed", "gate")


async def test_arguments_that_are_no_plain_data_have_no_digest() -> None:
    """That the agent wanted to call is noted all the same."""
    slate = Slate()
    spec = calling(deciding("deny"), {(1, 2): "x"})
    async with opened(slate) as audit, pooled(spec, audit=audit) as pool:
        await pool.ask("x", principal=ANN)
    (record,) = noted(slate, "tool.call")
    assert (record.outcome, record.arguments) == ("denied", None)


@pytest.mark.parametrize(
    ("decision", "outcome", "then"),
    [("approve", "approved", "allowed"), ("deny", "denied", "denied")],
)
async def test_a_humans_decision_is_noted_once(decision: str, outcome: str, then: str) -> None:
    """With who decided; a second one is a conflict and no record. Then the call, by that word."""
    slate = Slate()
    async with opened(slate) as audit, pooled(calling(deciding("ask")), audit=audit) as pool:
        turn = await pool.ask("x", principal=ANN)
        digest = audit.digest({"to": SECRET})
        options = {"principal": BOSS, "reason": SECRET, "request_id": "r9"}
        await pool.decide(turn.id, "c1", decision, **options)  # type: ignore[arg-type]
        with pytest.raises(Conflict):
            await pool.decide(turn.id, "c1", decision, **options)  # type: ignore[arg-type]
        await pool.wait(turn.id, principal=ANN)
    (record,) = noted(slate, "approval.decide")
    assert (record.outcome, record.reason, record.arguments) == (outcome, "", digest)
    assert (record.user, record.roles, record.request_id) == ("boss", ("user", "operator"), "r9")
    assert record.subject == f"turn:{turn.id} tool:mail"
    calls = [(each.outcome, each.reason) for each in noted(slate, "tool.call")]
    assert calls == [("asked", "gate"), (then, "human")]
    assert SECRET.encode() not in b"".join(slate.lines)


async def test_a_decision_that_nobody_took_in_time_is_noted() -> None:
    """It is nobody's word, and says so."""
    slate = Slate()
    spec = calling(deciding("ask"))
    async with opened(slate) as audit, pooled(spec, audit=audit, approval_ttl_s=5) as pool:
        turn = await pool.ask("x", principal=ANN, deadline_s=100)
        await asyncio.sleep(6)
        await pool.wait(turn.id, principal=ANN)
    (record,) = noted(slate, "approval.decide")
    assert (record.outcome, record.reason) == ("denied", "expired")
    assert (record.tenant, record.user) == ("acme", "")


async def test_no_turn_is_taken_that_could_not_be_noted() -> None:
    """While the log cannot be written turns are refused as while the store is away; then not."""
    slate = Slate()
    async with opened(slate, retry_s=1.0) as audit, pooled(Held(), audit=audit) as pool:
        slate.error = StoreUnavailable("no space left")
        audit.record("x", "y", ANN)
        await asyncio.sleep(1)
        with pytest.raises(StoreUnavailable, match="audit log"):
            await pool.submit("x")
        assert pool.stats().turns == 0
        slate.error = None
        await asyncio.sleep(2)
        await pool.submit("x")


async def test_where_turns_may_go_unnoted_they_go_on() -> None:
    """With `warn` the log that cannot be written stops nobody, and has them later."""
    slate = Slate()
    async with opened(slate, unwritable="warn") as audit, pooled(Held(), audit=audit) as pool:
        slate.error = StoreUnavailable("no space left")
        audit.record("x", "y", ANN)
        await asyncio.sleep(1)
        await pool.submit("x")
        slate.error = None
    assert len(noted(slate, "turn.accept")) == 1


async def test_a_turn_is_noted_once_whichever_process_runs_it() -> None:
    """Where it was accepted: also if its session is elsewhere, or another process has more room."""
    store = MemoryStore(clock=wall, lease_ttl_s=LEASE_S)
    slates, agents = (Slate(), Slate()), (Held(), Held())
    spec = AgentSpec(agent=agents[0], max=1)
    async with (
        opened(slates[0]) as left,
        opened(slates[1]) as right,
        pooled({"a": spec}, store=View(store), name="a", audit=left, close_deadline_s=0) as a,
        pooled({"a": agents[1]}, store=View(store), name="b", audit=right, close_deadline_s=0) as b,
    ):
        await asyncio.sleep(2)
        first = await a.submit("one", session="s1", request_id="r1")
        await agents[0].until_started(1)
        adopted = await b.submit("two", session="s1", request_id="r2")
        given_away = await a.submit("three", session="s2", request_id="r3")
        await agents[1].until_started(1)
    found = [
        [(each.subject, each.request_id) for each in noted(slate, "turn.accept")]
        for slate in slates
    ]
    assert found == [
        [(f"turn:{first.id}", "r1"), (f"turn:{given_away.id}", "r3")],
        [(f"turn:{adopted.id}", "r2")],
    ]
