"""A human's say about tool calls: once, in time, and for exactly what was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from pool import AgentPool, AgentSpec, Principal, TurnEnd, TurnInput
from pool.agent import ALLOW, Context, Decision, Gate, ToolCall
from pool.errors import AgentFailed, Conflict, Forbidden, NotFound
from pool.events import ApprovalDecided, ApprovalRequested, TextDelta, ToolCalled
from pool.store.sqlite import SqliteStore
from tests.support.agents import Scripted, collected, pooled, said, ticks

BOSS = Principal("default", "boss", ("user", "operator"))
Word = Literal["approve", "deny"]


class Paying:
    """Makes the calls named in its input (`c1 c2`), each for 5 euro; says what became of them."""

    def __init__(self) -> None:
        self.inputs: list[TurnInput] = []
        # the turn goes on only when this is set, after it has asked
        self.go = asyncio.Event()
        self.go.set()
        self.asked = asyncio.Event()
        self.euro = 5

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        self.inputs.append(turn)
        done = (turn.state or b"").decode().split() if turn.resume else []
        paused = False
        for call_id in turn.input.split():
            if call_id in done:
                continue
            call = ToolCall(call_id, "pay", {"euro": self.euro})
            decision = await ctx.gate(call)
            if decision.action == "ask":
                paused = True
                continue
            done.append(call_id)
            if decision.action == "allow":
                await ctx.emit(ToolCalled(call_id=call_id, name="pay", arguments=call.arguments))
            await ctx.emit(TextDelta(f"{call_id} {decision.action}: {decision.reason};"))
        self.asked.set()
        await self.go.wait()
        state = " ".join(done).encode()
        return TurnEnd("paused" if paused else "done", state=state)


def ask(principal: Principal, call: ToolCall) -> Decision:
    return Decision("ask", risk="dangerous")


def paying(agent: Paying, gate: Gate = ask) -> AgentSpec:
    return AgentSpec(agent=Scripted(agent.run, state_format="pay/1"), gate=gate)


async def test_a_gate_allows_denies_or_asks() -> None:
    """The gate sees who asks and what is to be called, may be async, and its word holds."""
    seen: list[tuple[Principal, ToolCall]] = []

    def gate(principal: Principal, call: ToolCall) -> Decision | Awaitable[Decision]:
        seen.append((principal, call))
        return ALLOW if call.call_id == "c1" else deny()

    async def deny() -> Decision:
        await asyncio.sleep(1)
        return Decision("deny", "not on a Sunday")

    async with pooled({"a": paying(Paying(), gate)}) as pool:
        turn = await pool.ask("c1 c2", principal=BOSS)
        assert turn.output == "c1 allow: ;c2 deny: not on a Sunday;"
        assert turn.usage.tool_calls == 1
        assert seen == [(BOSS, ToolCall(f"c{n}", "pay", {"euro": 5})) for n in (1, 2)]


async def test_without_a_gate_every_call_is_allowed() -> None:
    """The gate is the user's choice."""
    async with pooled({"a": AgentSpec(agent=Scripted(Paying().run))}) as pool:
        assert (await pool.ask("c1")).output == "c1 allow: ;"


@pytest.mark.parametrize(("decision", "became"), [("approve", "allow"), ("deny", "deny")])
async def test_a_turn_waits_for_the_human_and_goes_on(decision: Word, became: str) -> None:
    """Paused with the call pending; decided, it resumes from its state, with the same attempt."""
    agent = Paying()
    async with pooled({"a": paying(agent)}) as pool:
        turn = await pool.ask("c1", session="s1")
        [pending] = turn.pending
        assert (turn.state, pending.call_id, pending.name) == ("waiting", "c1", "pay")
        assert (pending.arguments, pending.risk) == ({"euro": 5}, "dangerous")
        await pool.decide(turn.id, "c1", decision, reason="because", principal=BOSS)
        ended = await pool.wait(turn.id)
        assert (ended.state, ended.attempt) == ("completed", 1)
        assert ended.output == f"c1 {became}: because;"
        resumed = agent.inputs[1]
        assert resumed.resume and [(a.call_id, a.decision, a.by) for a in resumed.approvals] == [
            ("c1", decision, "boss")
        ]
        assert (ended.pending, ended.decided) == ((), ())


async def test_readers_see_the_question_and_the_answer() -> None:
    """Requested and decided are in the log, in order; the text of before the pause stays."""
    async with pooled({"a": paying(Paying(), first_allowed)}) as pool:
        turn = await pool.ask("c0 c1")
        await pool.decide(turn.id, "c1", "approve", principal=BOSS)
        await pool.wait(turn.id)
        events = await collected(pool.events(turn.id))
        [asked] = [e for e in events if isinstance(e, ApprovalRequested)]
        [decided] = [e for e in events if isinstance(e, ApprovalDecided)]
        assert (asked.call_id, asked.arguments, asked.risk) == ("c1", {"euro": 5}, "dangerous")
        assert (decided.call_id, decided.decision, decided.by) == ("c1", "approve", "boss")
        assert [e.type for e in events].count("turn.started") == 1
        assert said(events) == (await pool.turn(turn.id)).output == "c0 allow: ;c1 allow: ;"


def first_allowed(principal: Principal, call: ToolCall) -> Decision:
    return ALLOW if call.call_id == "c0" else Decision("ask", risk="dangerous")


async def test_a_decision_is_used_once() -> None:
    """Decided twice is a `Conflict`, whatever is said the second time, also after the end."""
    async with pooled({"a": paying(Paying())}) as pool:
        turn = await pool.ask("c1 c2")
        await pool.decide(turn.id, "c1", "approve")
        for decision in ("approve", "deny"):
            with pytest.raises(Conflict):
                await pool.decide(turn.id, "c1", decision)
        await pool.decide(turn.id, "c2", "approve")
        await pool.wait(turn.id)
        with pytest.raises(Conflict, match="completed"):
            await pool.decide(turn.id, "c2", "approve")
        assert (await pool.turn(turn.id)).usage.tool_calls == 2


async def test_a_hundred_decisions_at_once_are_one() -> None:
    """Of many who decide at the same moment one is heard."""
    async with pooled({"a": paying(Paying())}) as pool:
        turn = await pool.ask("c1")
        said = await asyncio.gather(
            *[pool.decide(turn.id, "c1", "approve") for _ in range(100)], return_exceptions=True
        )
        assert sum(isinstance(one, Conflict) for one in said) == 99
        assert (await pool.wait(turn.id)).usage.tool_calls == 1


async def test_arguments_must_be_those_that_were_shown() -> None:
    """A decision about other arguments, or about an unknown call or turn, decides nothing."""
    async with pooled({"a": paying(Paying())}) as pool:
        turn = await pool.ask("c1")
        with pytest.raises(Conflict, match="not those that wait"):
            await pool.decide(turn.id, "c1", "approve", arguments={"euro": 500})
        with pytest.raises(Conflict):
            await pool.decide(turn.id, "c9", "approve")
        with pytest.raises(NotFound):
            await pool.decide("nothing", "c1", "approve")
        assert len((await pool.turn(turn.id)).pending) == 1
        await pool.decide(turn.id, "c1", "approve", arguments={"euro": 5})
        assert (await pool.wait(turn.id)).state == "completed"


async def test_an_approval_does_not_hold_for_other_arguments() -> None:
    """An agent that was allowed to pay 5 and asks to pay 500 under the same id has to ask again."""
    agent = Paying()
    async with pooled({"a": paying(agent)}) as pool:
        turn = await pool.ask("c1")
        agent.euro = 500
        await pool.decide(turn.id, "c1", "approve")
        again = await pool.wait(turn.id, until_paused=True)
        assert again.state == "waiting" and again.pending[0].arguments == {"euro": 500}
        assert again.usage.tool_calls == 0
        await pool.cancel(turn.id)


async def test_several_calls_wait_until_all_are_decided() -> None:
    """The turn goes on with the last decision, and is told all of them."""
    agent = Paying()
    async with pooled({"a": paying(agent)}) as pool:
        turn = await pool.ask("c1 c2 c3")
        assert [p.call_id for p in turn.pending] == ["c1", "c2", "c3"]
        await pool.decide(turn.id, "c2", "deny", reason="no")
        await pool.decide(turn.id, "c1", "approve")
        await ticks()
        assert (await pool.turn(turn.id)).state == "waiting" and len(agent.inputs) == 1
        await pool.decide(turn.id, "c3", "approve")
        ended = await pool.wait(turn.id)
        assert ended.output == "c1 allow: ;c2 deny: no;c3 allow: ;"
        assert len(agent.inputs[1].approvals) == 3


async def test_a_call_may_be_decided_while_the_turn_still_runs() -> None:
    """A human who is quicker than the agent is heard when the agent has paused."""
    agent = Paying()
    agent.go.clear()
    async with pooled({"a": paying(agent)}) as pool:
        turn = await pool.submit("c1")
        await agent.asked.wait()
        assert (await pool.decide(turn.id, "c1", "approve")).state == "running"
        with pytest.raises(Conflict):
            await pool.decide(turn.id, "c1", "deny")
        agent.go.set()
        ended = await pool.wait(turn.id)
        assert (ended.state, ended.output) == ("completed", "c1 allow: ;")


async def test_a_call_that_nobody_decides_in_time_is_denied() -> None:
    """After `approval_ttl_s` it is too late to decide; the agent is told that nobody did."""
    async with pooled({"a": paying(Paying())}, approval_ttl_s=60) as pool:
        turn = await pool.ask("c1", deadline_s=600)
        ended = await pool.wait(turn.id)
        assert ended.state == "completed"
        assert ended.output == "c1 deny: nobody decided in time;"
        with pytest.raises(Conflict):
            await pool.decide(turn.id, "c1", "approve")


async def test_a_crash_voids_what_was_pending() -> None:
    """A turn that crashes asks again; an approval that it has used up is not used twice."""
    agent = Paying()
    crashes = ["first", "resumed"]

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        end = await agent.run(turn, ctx)
        if crashes and (crashes[0] == "resumed") == bool(turn.approvals):
            crashes.pop(0)
            raise SystemExit
        return end

    async with pooled(
        {"a": AgentSpec(agent=Scripted(run, state_format="pay/1"), gate=ask)}
    ) as pool:
        turn = await pool.ask("c1")
        assert (turn.state, len(turn.pending), turn.attempt) == ("waiting", 1, 2)
        await pool.decide(turn.id, "c1", "approve")
        again = await pool.wait(turn.id, until_paused=True)
        assert (again.state, len(again.pending), again.attempt) == ("waiting", 1, 3)
        await pool.decide(turn.id, "c1", "deny")
        assert (await pool.wait(turn.id)).output == "c1 deny: a human said no;"


async def test_a_pause_without_a_question_fails_the_turn() -> None:
    """An agent that pauses must wait for somebody."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        return TurnEnd("paused", state=b"")

    async with pooled({"a": Scripted(run, state_format="t/1")}) as pool:
        with pytest.raises(AgentFailed, match="no call of a tool waits"):
            await pool.ask("hi")


async def test_a_waiting_turn_can_be_cancelled_and_keeps_its_session() -> None:
    """The next turn of the session waits for it, and runs when it was cancelled."""
    async with pooled({"a": paying(Paying())}) as pool:
        turn = await pool.ask("c1", session="s1")
        behind = await pool.submit("c2", session="s1")
        await ticks()
        assert (await pool.turn(behind.id)).state == "queued"
        assert (await pool.cancel(turn.id)).state == "cancelled"
        assert (await pool.wait(behind.id, until_paused=True)).state == "waiting"
        await pool.cancel(behind.id)


async def test_the_key_for_effects_is_the_same_in_every_attempt() -> None:
    """A tool called again after a crash gets the same key; another call or turn another one."""
    keys: list[str] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        calls = [ToolCall(call_id, "pay", {"euro": 5}) for call_id in ("c1", "c2")]
        keys.extend(ctx.idempotency_key(call) for call in calls)
        if ctx.attempt == 1:
            raise SystemExit
        return TurnEnd(output="ok")

    async def both(pool: AgentPool) -> None:
        await pool.ask("one")
        await pool.ask("two")

    async with pooled({"a": Scripted(run)}) as pool:
        await both(pool)
        assert keys[0:2] == keys[2:4] and keys[4:6] == keys[6:8]
        assert len(set(keys)) == 4


# --- who may decide

ANN = Principal("default", "ann")


def asking(*deciders: str) -> Gate:
    """A gate that asks those with one of these roles."""
    return lambda principal, call: Decision("ask", risk="dangerous", deciders=deciders)


@pytest.mark.parametrize(
    ("deciders", "by", "may"),
    [
        ((), ANN, True),
        ((), Principal("default", "ann", ()), True),
        ((), Principal("default", "bob"), False),
        ((), Principal("default", "bob", ("finance",)), False),
        ((), Principal("default", "bob", ("operator",)), True),
        ((), Principal("default", "bob", ("admin",)), True),
        (("finance", "board"), Principal("default", "bob", ("user", "board")), True),
        (("finance",), Principal("default", "bob", ("operator", "admin")), False),
        (("finance",), ANN, False),
        (("finance",), Principal("default", "ann", ("user", "finance")), True),
    ],
)
async def test_only_who_may_decides(deciders: tuple[str, ...], by: Principal, may: bool) -> None:
    """Who was named; if nobody was, whoever asked for the turn, an operator or an admin."""
    async with pooled({"a": paying(Paying(), asking(*deciders))}) as pool:
        turn = await pool.ask("c1", principal=ANN)
        if may:
            await pool.decide(turn.id, "c1", "approve", principal=by)
            assert (await pool.wait(turn.id, principal=ANN)).output == "c1 allow: ;"
            return
        for decision in ("approve", "deny"):
            for arguments in (None, {"euro": 500}):
                with pytest.raises(Forbidden, match="is not yours to decide"):
                    await pool.decide(turn.id, "c1", decision, principal=by, arguments=arguments)
        kept = await pool.turn(turn.id, principal=ANN)
        assert (kept.state, len(kept.pending), kept.decided) == ("waiting", 1, ())
        await pool.cancel(turn.id, principal=ANN)


async def test_another_tenants_call_is_not_there_to_be_decided() -> None:
    """Whatever roles they have, and whatever they are called."""
    async with pooled({"a": paying(Paying(), asking("finance"))}) as pool:
        turn = await pool.ask("c1", principal=ANN)
        for roles in (("finance",), ("operator", "admin"), ("user",)):
            with pytest.raises(NotFound):
                await pool.decide(
                    turn.id, "c1", "approve", principal=Principal("other", "ann", roles)
                )
        assert len((await pool.turn(turn.id, principal=ANN)).pending) == 1
        await pool.cancel(turn.id, principal=ANN)


async def test_who_may_not_decide_does_not_learn_that_it_was_decided() -> None:
    """They are refused for who they are, before and after; who may learns that it is too late."""
    boss = Principal("default", "bob", ("finance",))
    async with pooled({"a": paying(Paying(), asking("finance"))}) as pool:
        turn = await pool.ask("c1 c2", principal=ANN)
        await pool.decide(turn.id, "c1", "approve", principal=boss)
        with pytest.raises(Forbidden):
            await pool.decide(turn.id, "c1", "approve", principal=ANN)
        with pytest.raises(Conflict):
            await pool.decide(turn.id, "c1", "approve", principal=boss)
        with pytest.raises(Forbidden):
            await pool.decide(turn.id, "c1", "approve", principal=ANN, repeat=True)
        await pool.cancel(turn.id, principal=ANN)


async def test_a_repeat_is_of_what_was_decided_about() -> None:
    """Of each question that was put about a call, with the arguments that it showed; with others it
    is no repeat.
    """
    agent = Paying()
    async with pooled({"a": paying(agent)}) as pool:
        turn = await pool.ask("c1", principal=ANN)
        agent.euro = 6
        for euro in (5, 6):
            await pool.decide(turn.id, "c1", "approve", principal=ANN, arguments={"euro": euro})
            turn = await pool.wait(turn.id, until_paused=True, principal=ANN)
        assert turn.state == "completed"
        again = partial(pool.decide, turn.id, "c1", principal=ANN, repeat=True)
        for shown in (None, {"euro": 5}, {"euro": 6}):
            await again("approve", arguments=shown)
            with pytest.raises(Conflict):
                await again("deny", arguments=shown)
        for other in ({"euro": 500}, {"euro": True}, {}):
            with pytest.raises(Conflict):
                await again("approve", arguments=other)


@pytest.mark.parametrize("call_id", ["pay\u20ac", "x" * 257])
async def test_a_call_that_nobody_could_name_is_not_asked_about(call_id: str) -> None:
    """The agent has made a mistake: its turn fails, rather than waits for nobody."""
    async with pooled({"a": paying(Paying())}) as pool:
        with pytest.raises(AgentFailed, match="1 to 256 visible ASCII"):
            await pool.ask(call_id)


async def test_who_asks_without_a_name_decides_about_their_own() -> None:
    """Embedded, without principals, whoever asks may decide; not about a turn of somebody named."""
    async with pooled({"a": paying(Paying())}) as pool:
        mine, anns = await pool.ask("c1"), await pool.ask("c1", principal=ANN)
        await pool.decide(mine.id, "c1", "approve")
        assert (await pool.wait(mine.id)).state == "completed"
        with pytest.raises(Forbidden):
            await pool.decide(anns.id, "c1", "approve")
        await pool.cancel(anns.id, principal=ANN)


@pytest.mark.real_time
async def test_a_pending_call_outlives_the_process(tmp_path: Path) -> None:
    """On a store with a disk it waits on after a restart, for the same people and arguments, and is
    decided once.
    """
    path = str(tmp_path / "pool.db")
    finance = Principal("default", "bob", ("finance",))
    store = SqliteStore(path)
    async with AgentPool({"a": paying(Paying(), asking("finance"))}, store=store) as pool:
        accepted = await pool.submit("c1", session="s1", principal=ANN)
        turn = await pool.wait(accepted.id, until_paused=True, principal=ANN)
    await store.close()

    store = SqliteStore(path)
    async with AgentPool({"a": paying(Paying(), asking("finance"))}, store=store) as pool:
        kept = await pool.turn(turn.id, principal=ANN)
        assert (kept.state, kept.pending) == ("waiting", turn.pending)
        assert kept.pending[0].deciders == ("finance",)
        with pytest.raises(Forbidden):
            await pool.decide(turn.id, "c1", "approve", principal=ANN)
        with pytest.raises(Conflict, match="not those that wait"):
            await pool.decide(turn.id, "c1", "approve", principal=finance, arguments={"euro": 500})
        await pool.decide(turn.id, "c1", "approve", principal=finance, arguments={"euro": 5})
        ended = await pool.wait(turn.id, principal=ANN)
        assert (ended.output, ended.usage.tool_calls) == ("c1 allow: ;", 1)
        with pytest.raises(Conflict):
            await pool.decide(turn.id, "c1", "approve", principal=finance)
    await store.close()

    store = SqliteStore(path)
    async with AgentPool({"a": paying(Paying())}, store=store) as pool:
        with pytest.raises(Conflict):
            await pool.decide(turn.id, "c1", "approve", principal=finance)
        assert (await pool.turn(turn.id, principal=ANN)).usage.tool_calls == 1
    await store.close()
