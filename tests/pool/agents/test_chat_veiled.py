"""The built-in chat agent behind a veil: its model sees placeholders, its tools what is meant."""

from __future__ import annotations

from msgspec.structs import replace

from pool import AgentSpec, Principal
from pool.agent import ALLOW, Decision, ToolCall
from pool.agents.conversation import UserSaid
from pool.agents.model import Answer, Emit, Prompt
from pool.events import TextDelta, ToolReturned
from tests.support.agents import collected, said
from tests.support.chat_agents import agent_with
from tests.support.private import numbered, private
from tests.support.scripted_model import ScriptedModel, calls, says

ANN, BOB = "ann@example.com", "bob@example.com"


class Echoing(ScriptedModel):
    """Says what it was asked first where its script says `@@`, letter by letter."""

    async def ask(self, prompt: Prompt, emit: Emit) -> Answer:
        """The next answer of the script."""
        self.prompts.append(list(prompt.entries))
        first = next(entry.text for entry in prompt.entries if isinstance(entry, UserSaid))
        answer = next(self._answers)
        assert isinstance(answer, Answer)
        asked = (replace(c, arguments=c.arguments.replace("@@", first)) for c in answer.calls)
        answer = replace(answer, text=answer.text.replace("@@", first), calls=tuple(asked))
        for letter in answer.text:
            await emit(TextDelta(letter))
        return answer


async def test_a_model_sees_placeholders_and_tools_what_is_meant() -> None:
    """Results, errors and reasons go behind the veil; gate, tools and readers are before it."""
    model = Echoing(
        calls(("delete", {"name": "@@"}), ("fail", {"secret": "no @@"})),
        calls(("delete", {"name": "@@ more"}), ("delete", {"nam": "@@"})),
        says("gone: @@"),
    )
    asked: list[ToolCall] = []

    def gate(who: Principal, call: ToolCall) -> Decision:
        asked.append(call)
        more = call.arguments.get("name", "").endswith("more")
        return Decision("deny", f"ask {BOB}") if more else ALLOW

    async with private({"a": AgentSpec(agent=agent_with(model), gate=gate)}) as pool:
        turn = await pool.submit(ANN)
        events = await collected(pool.events(turn.id))
    assert said(events) == f"gone: {ANN}"
    assert [call.arguments for call in asked] == [
        {"name": ANN},
        {"secret": f"no {ANN}"},
        {"name": f"{ANN} more"},
    ]
    results = [event.result for event in events if isinstance(event, ToolReturned)]
    assert f"deleted {ANN}" in results and f"denied: ask {BOB}" in results
    shown = numbered(str(model.prompts[-1]))
    assert ANN not in shown and BOB not in shown
    assert "deleted <email 1>" in shown
    assert "the tool failed: ValueError: no <email 1>" in shown
    assert "denied: ask <email 2>" in shown
