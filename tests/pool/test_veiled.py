"""Behind a veil an agent sees placeholders, and everybody else what they stand for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from pool import AgentPool, AgentSpec, Principal, TurnEnd, TurnInput
from pool.agent import ALLOW, Context, Decision, ToolCall
from pool.errors import AgentFailed
from pool.events import (
    START,
    ApprovalRequested,
    Event,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from pool.guard.privacy_config import PrivacyConfig
from pool.store.base import SessionKey
from pool.store.memory import MemoryStore
from pool.turn import TurnRequest
from tests.support.agents import Crashing, Held, Scripted, collected, pooled, said, wall
from tests.support.private import OFF, Listening, numbered, private

ANN, BOB = "ann@example.com", "bob@example.com"


def listening(agent: Listening) -> Scripted:
    return Scripted(agent.run, state_format="lines/1")


async def state_in(pool: AgentPool, session: str, agent: str) -> tuple[str, bytes | None]:
    """The format and the bytes of an agent's state, as the store has them."""
    carried = await pool.store.carry_out(SessionKey("default", session))
    assert carried is not None
    [state] = [each for each in carried.states if each.agent == agent]
    return state.format, state.data


@pytest.mark.parametrize("append", [False, True])
async def test_an_agent_sees_placeholders_and_the_caller_what_they_stand_for(append: bool) -> None:
    """The same value has the same placeholder in all turns; state replaced or grown, it holds."""
    agent = Listening(append=append)
    async with private({"a": listening(agent)}) as pool:
        await pool.ask(f"I am {ANN}", session="s1")
        await pool.ask(f"he is {BOB}, I am {ANN}", session="s1")
        last = await pool.ask("who?", session="s1")
        assert last.output == f"I am {ANN}\nhe is {BOB}, I am {ANN}\nwho?\n"
        kept = (agent.inputs[2].state or b"").decode()
        assert numbered(kept) == "I am <email 1>\nhe is <email 2>, I am <email 1>\n"
        assert [turn.resume for turn in agent.inputs] == [False] * 3
        transcript = (await pool.messages("s1")).items
        assert transcript[0].content == f"I am {ANN}"


async def test_it_goes_on_in_another_process() -> None:
    """What placeholders stand for is in the session's state, and nowhere else."""
    store = MemoryStore(clock=wall)
    first, second = Listening(), Listening()
    async with private({"a": listening(first)}, store=store, name="one") as pool:
        await pool.ask(ANN, session="s1")
        state_format, data = await state_in(pool, "s1", "a")
        assert state_format == "veiled/1 lines/1"
        assert data is not None and ANN.encode() in data
    async with private({"a": listening(second)}, store=store, name="two") as pool:
        assert (await pool.ask("again", session="s1")).output == f"{ANN}\nagain\n"
        assert second.inputs[0].state == f"{first.inputs[0].input}\n".encode()
        await pool.delete_session("s1")
        await pool.ask("anew", session="s1")
        assert (await state_in(pool, "s1", "a"))[1] == b"\0\0\0\0\0\0\0\5anew\n"


async def test_each_agent_of_a_session_has_placeholders_of_its_own() -> None:
    """What another agent said comes from the transcript, and goes behind the veil once more."""
    one, two = Listening(), Listening()
    agents = {"one": listening(one), "two": listening(two)}
    async with private(agents) as pool:
        await pool.ask(ANN, session="s1", agent="one")
        turn = await pool.ask("and?", session="s1", agent="two")
        assert turn.output == f"{ANN}\n{ANN}\n\nand?\n"
        seen = [message.content for message in two.inputs[0].unseen]
        assert [numbered(text) for text in seen] == ["<email 1>", "<email 1>\n"]
        assert seen[0] != one.inputs[0].input


async def test_a_fork_begins_from_the_transcript() -> None:
    """With placeholders of its own; the first session keeps its."""
    agent = Listening()
    async with private({"a": listening(agent)}) as pool:
        await pool.ask(ANN, session="s1")
        fork = await pool.fork_session("s1")
        assert (await pool.ask("x", session=fork.id)).output == f"{ANN}\n{ANN}\n\nx\n"
        assert (await pool.ask("x", session="s1")).output == f"{ANN}\nx\n"


async def test_an_answer_in_pieces_is_restored() -> None:
    """Wherever a placeholder is split; and reasoning as well."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        for letter in f"to {turn.input}!":
            await ctx.emit(ReasoningDelta(letter))
        for letter in f"I wrote to {turn.input} [x":
            await ctx.emit(TextDelta(letter))
        return TurnEnd()

    async with private({"a": Scripted(run)}) as pool:
        turn = await pool.submit(ANN)
        events = await collected(pool.events(turn.id))
        assert said(events) == f"I wrote to {ANN} [x"
        thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
        assert thought == f"to {ANN}!"


@pytest.mark.parametrize("after", ["text", "end", "tool", "gate"])
async def test_what_is_held_back_is_said_before_what_follows(after: str) -> None:
    """The beginning of what may have been a placeholder stays where it was."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(ReasoningDelta("hm [email"))
        if after == "text":
            await ctx.emit(TextDelta("so"))
        elif after == "tool":
            await ctx.emit(ToolCalled("c1", "look"))
        elif after == "gate":
            await ctx.gate(ToolCall("c1", "look"))
        return TurnEnd("paused" if after == "gate" else "done")

    asking = AgentSpec(agent=Scripted(run), gate=lambda who, call: Decision("ask"))
    async with private({"a": asking if after == "gate" else Scripted(run)}) as pool:
        turn = await pool.submit("x")
        await pool.wait(turn.id)
        seen = [event async for event in told(pool, turn.id)]
        kinds = [event.type for event in seen if event.type not in ("turn.queued", "turn.started")]
        following = {
            "text": "text.delta",
            "tool": "tool.called",
            "gate": "approval.requested",
            "end": "turn.completed",
        }
        assert kinds[:3] == ["reasoning.delta", "reasoning.delta", following[after]]
        assert "".join(e.text for e in seen if isinstance(e, ReasoningDelta)) == "hm [email"


async def told(pool: AgentPool, turn_id: str) -> AsyncIterator[Event]:
    """What a turn has told so far."""
    record = await pool.turn(turn_id)
    page = await pool.store.events(SessionKey("default", record.session_id), START, 100)
    for event in page.events:
        yield event


class Mailing:
    """Sends a mail to whom it is told, behind a gate, and says what came of it.

    `sent` is what the tool was called with, `read` what the agent read of the result.
    """

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.read: list[Any] = []
        self.keys: list[str] = []
        self.reasons: list[str] = []
        self.requests: list[TurnRequest] = []

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        self.requests.append(ctx.request)
        text = turn.state.decode() if turn.resume and turn.state else turn.input
        call = ToolCall("c1", "mail", {"to": [text], "n": 1})
        decision = await ctx.gate(call)
        self.keys.append(ctx.idempotency_key(call))
        if decision.action == "ask":
            return TurnEnd("paused", state=text.encode())
        self.reasons.append(decision.reason)
        self.reasons.extend(approval.reason for approval in turn.approvals)
        if decision.action == "deny":
            return TurnEnd(output=f"not to {text}: {decision.reason}", state=b"")
        await ctx.emit(ToolCalled("c1", "mail", call.arguments))
        result = ctx.conceal(self._mail(**ctx.reveal(call.arguments)))
        self.read.append(result)
        await ctx.emit(ToolReturned("c1", result))
        return TurnEnd(output=f"done: {result['copy']}", state=b"")

    def _mail(self, **arguments: Any) -> dict[str, Any]:
        self.sent.append(arguments)
        return {"copy": BOB, "count": 1, "log": ["[email-1]", arguments["to"][0]]}


async def test_tools_gate_and_readers_get_what_is_meant() -> None:
    """The agent reads of a result what its model may see."""
    agent, asked = Mailing(), []

    def gate(principal: Principal, call: ToolCall) -> Decision:
        asked.append(call)
        return ALLOW

    agents = {"a": AgentSpec(agent=Scripted(agent.run, state_format="m/1"), gate=gate)}
    async with private(agents) as pool:
        turn = await pool.submit(ANN)
        events = await collected(pool.events(turn.id))
    arguments = {"to": [ANN], "n": 1}
    assert [call.arguments for call in asked] == agent.sent == [arguments]
    [called] = [event for event in events if isinstance(event, ToolCalled)]
    [returned] = [event for event in events if isinstance(event, ToolReturned)]
    assert called.arguments == arguments
    assert returned.result == {"copy": BOB, "count": 1, "log": ["[email-1]", ANN]}
    assert said(events) == f"done: {BOB}"
    [read] = agent.read
    assert numbered(str(read)) == str(
        {"copy": "<email 1>", "count": 1, "log": ["<literal 2>", "<email 3>"]}
    )
    assert agent.requests[0].input == read["log"][1]


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_whoever_approves_sees_what_is_meant_also_after_a_restart(decision: Any) -> None:
    """The turn pauses here and goes on there; the reason reaches the agent behind the veil."""
    store, agent = MemoryStore(clock=wall), Mailing()
    agents = {
        "a": AgentSpec(
            agent=Scripted(agent.run, state_format="m/1"), gate=lambda who, call: Decision("ask")
        )
    }
    store.durable = True
    async with private(agents, store=store, name="one") as pool:
        turn = await pool.ask(ANN, session="s1", on_disconnect="continue")
        assert turn.pending[0].arguments == {"to": [ANN], "n": 1}
        [shown] = [e async for e in told(pool, turn.id) if isinstance(e, ApprovalRequested)]
        assert shown.arguments == {"to": [ANN], "n": 1}
    async with private(agents, store=store, name="two") as pool:
        await pool.decide(turn.id, "c1", decision, reason=f"ask {BOB}")
        ended = await pool.wait(turn.id)
    assert ended.state == "completed"
    assert [numbered(reason) for reason in agent.reasons] == ["ask <email 1>"] * 2
    if decision == "deny":
        assert ended.output == f"not to {ANN}: ask {BOB}"
        assert agent.sent == []
    else:
        assert agent.sent == [{"to": [ANN], "n": 1}]


async def test_a_call_has_the_key_of_what_is_meant() -> None:
    """Which differs for other values, and not for other placeholders."""
    agent = Mailing()
    async with private({"a": Scripted(agent.run)}) as pool:
        turn = await pool.ask(ANN)
    body = (turn.id, "mail", "c1", {"to": [ANN], "n": 1})
    encoded = msgspec.json.encode(body, order="deterministic")
    assert agent.keys == [blake2b(encoded, digest_size=16).hexdigest()]


async def test_an_agent_without_state_is_veiled_turn_by_turn() -> None:
    """A function of the text too; placeholders of earlier turns stay what they are."""
    seen: list[str] = []

    async def repeat(text: str) -> str:
        seen.append(text)
        return " ".join(seen)

    async with private(repeat) as pool:
        assert (await pool.ask(ANN, session="s1")).output == ANN
        assert (await pool.ask(BOB, session="s1")).output == f"{seen[0]} {BOB}"
        assert numbered(seen[0]) == "<email 1>"


async def test_placeholders_that_are_lost_do_not_come_back_as_others() -> None:
    """Those of a turn that was interrupted are nobody's."""
    agent, held = Listening(), Held()
    lost: list[str] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.input.startswith("wait"):
            lost.append(turn.input)
            await held("wait")
        end = await agent.run(turn, ctx)
        return TurnEnd(output=f"{end.output}{lost[0]}", state=end.state)

    async with private({"a": Scripted(run, state_format="t/1")}) as pool:
        await pool.submit(f"wait {ANN}", session="s1")
        await held.until_started(1)
        turn = await pool.ask(BOB, session="s1", if_busy="interrupt")
        assert turn.output == f"wait {ANN}\n{BOB}\n{lost[0]}"


async def test_a_crashed_turn_goes_on_from_its_checkpoint_with_its_values() -> None:
    """Also those that came in this very turn; and what then grows has them all."""
    seen: list[bytes | None] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        seen.append(turn.state)
        if ctx.attempt == 1 and turn.input == "crash":
            await ctx.checkpoint(ctx.conceal(BOB).encode())
            raise SystemExit
        text = (turn.state or turn.input.encode()).decode()
        return TurnEnd(output=text, append=text.encode())

    async with private({"a": Scripted(run, state_format="t/1")}) as pool:
        assert (await pool.ask(ANN, session="s1")).output == ANN
        assert (await pool.ask("crash", session="s1")).output == BOB
        assert (await pool.ask("and", session="s1")).output == f"{ANN}{BOB}"
        assert numbered((seen[-1] or b"").decode()) == "<email 1><email 2>"


async def test_an_actor_that_breaks_begins_behind_the_veil_again() -> None:
    """A second attempt has placeholders of its own."""
    async with private(Crashing(1)) as pool:
        assert (await pool.ask(ANN)).output == "run 2"


async def test_modes_are_per_tenant() -> None:
    """One that does not ask for a veil has none, and its state is not sealed."""
    config = PrivacyConfig(default="model", tenants={"open": "logs"})
    agent = Listening()
    async with private({"a": listening(agent)}, config) as pool:
        await pool.ask(ANN, principal=Principal("open", "u"))
        await pool.ask(ANN, principal=Principal("acme", "u"))
        assert agent.inputs[0].input == ANN
        assert numbered(agent.inputs[1].input) == "<email 1>"


@pytest.mark.parametrize("without", [OFF, None])
async def test_a_session_that_was_veiled_is_restored_when_nobody_asks_any_more(
    without: PrivacyConfig | None,
) -> None:
    """What comes is not hidden, but what the state speaks of is understood, and kept."""
    store, agent = MemoryStore(clock=wall), Listening(append=True)
    async with private({"a": listening(agent)}, store=store, name="one") as pool:
        await pool.ask(ANN, session="s1")
    opened = pooled({"a": listening(agent)}, store=store, name="two")
    if without is not None:
        opened = private({"a": listening(agent)}, without, store=store, name="two")
    async with opened as pool:
        for _ in range(2):
            turn = await pool.ask(f"{BOB} [email-1]", session="s1")
        assert turn.output == f"{ANN}\n{BOB} [email-1]\n{BOB} [email-1]\n"
        assert agent.inputs[-1].input.startswith(BOB)
        assert (await state_in(pool, "s1", "a"))[0] == "veiled/1 lines/1"


async def test_a_state_of_before_is_not_shown_to_a_model() -> None:
    """It holds what was said in the open: the session goes on in a fork, veiled."""
    store, agent = MemoryStore(clock=wall), Listening()
    async with pooled({"a": listening(agent)}, store=store, name="one") as pool:
        await pool.ask(ANN, session="s1")
    async with private({"a": listening(agent)}, store=store, name="two") as pool:
        with pytest.raises(AgentFailed, match="go on in a fork"):
            await pool.ask("x", session="s1")
        fork = await pool.fork_session("s1")
        assert (await pool.ask("x", session=fork.id)).output == f"{ANN}\n{ANN}\n\nx\n"
        assert ANN.encode() not in (agent.inputs[-1].state or b"")


@pytest.mark.parametrize("data", [b"x", b"\0\0\0\1\0\0\0\0", b"\0\0\0\1\0\0\0\0x"])
async def test_a_damaged_state_fails_the_turn(data: bytes) -> None:
    """With what to do, and nothing of what is in it."""
    store = MemoryStore(clock=wall)
    async with private({"a": listening(Listening())}) as pool:
        await pool.ask("x", session="s1")
        carried = await pool.store.carry_out(SessionKey("default", "s1"))
        assert carried is not None
    damaged = [replace(state, data=data) for state in carried.states]
    await store.carry_in(replace(carried, states=damaged))
    async with private({"a": listening(Listening())}, store=store) as pool:
        with pytest.raises(AgentFailed, match="damaged; go on in a fork"):
            await pool.ask("x", session="s1")


async def test_what_the_values_take_counts_for_the_state() -> None:
    """Over `max_state_bytes` the turn fails, as it does with a state of that size."""
    async with private({"a": listening(Listening())}, max_state_bytes=50) as pool:
        with pytest.raises(AgentFailed, match="a session may keep 50"):
            await pool.ask(ANN)
        assert (await pool.ask("plain")).output == "plain\n"


@pytest.mark.parametrize("state", ["text", 5])
async def test_mistakes_of_an_agent_are_told_as_without_a_veil(state: Any) -> None:
    """What is not bytes, not text, not an end."""

    async def run(turn: TurnInput, ctx: Context) -> Any:
        match turn.input:
            case "checkpoint":
                await ctx.checkpoint(state)
            case "emit":
                await ctx.emit(TextDelta(5))  # type: ignore[arg-type]
            case "end":
                return state
        return TurnEnd(state=state)

    async with private({"a": Scripted(run, state_format="t/1")}) as pool:
        for text, mistake in (
            ("checkpoint", "must be bytes"),
            ("state", "must be bytes"),
            ("emit", "must be text"),
            ("end", "returns a TurnEnd"),
        ):
            with pytest.raises(AgentFailed, match=mistake):
                await pool.ask(text)


async def test_an_agent_that_was_left_behind_may_say_nothing_more() -> None:
    """Nor what was held back for it."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        await ctx.emit(TextDelta("said [email"))
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
        return TurnEnd()

    async with private({"a": Scripted(run)}) as pool:
        turn = await pool.submit("x")
        await begun.wait()
        await pool.cancel(turn.id)
        ended_turn = await pool.wait(turn.id)
        assert (ended_turn.state, ended.is_set()) == ("cancelled", True)
        assert ended_turn.output.startswith("said ")


@pytest.mark.real_time
async def test_a_long_input_is_looked_through_beside_the_loop() -> None:
    """Everybody else goes on meanwhile; what is found is the same."""
    agent = Listening()
    text = f"{'word ' * 20_000}{ANN}"
    async with private({"a": listening(agent)}) as pool:
        turn = await pool.ask(text, session="s1")
        assert numbered(agent.inputs[0].input).endswith("word <email 1>")
        assert turn.output == f"{text}\n"
