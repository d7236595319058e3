"""What an agent keeps of a session: replaced, appended, saved; and what it has not seen."""

from __future__ import annotations

import pytest

from pool import AgentSpec, TurnEnd, TurnInput
from pool.agent import Context
from pool.errors import AgentFailed
from pool.events import TextDelta
from pool.store.memory import MemoryStore
from pool.turn import Principal
from tests.support.agents import Held, Scripted, pooled, wall


class Remembering:
    """Keeps every input it was given, and what it saw of each turn."""

    def __init__(self, *, append: bool = False) -> None:
        self.seen: list[TurnInput] = []
        self._append = append

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        self.seen.append(turn)
        if turn.input.startswith("fail"):
            raise ValueError
        mine = f"{turn.input};".encode()
        if self._append:
            return TurnEnd(output="ok", append=mine)
        return TurnEnd(output="ok", state=(turn.state or b"") + mine)


@pytest.mark.parametrize("append", [False, True])
async def test_state_is_handed_to_the_next_turn(append: bool) -> None:
    """Replaced or appended to, it is there in the next turn of that session only."""
    agent = Remembering(append=append)
    async with pooled({"a": Scripted(agent.run, state_format="t/1")}) as pool:
        for text in ("a", "b", "c"):
            await pool.ask(text, session="s1")
        await pool.ask("x", session="s2")
        assert [turn.state for turn in agent.seen] == [None, b"a;", b"a;b;", None]
        versions = [turn.state_version for turn in agent.seen[:3]]
        assert len(set(versions)) == 3
        assert not any(turn.resume for turn in agent.seen)


async def test_a_turn_that_returns_no_state_leaves_it_as_it_was() -> None:
    """And the version too: a warm actor need not decode it again."""
    seen: list[TurnInput] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        seen.append(turn)
        return TurnEnd(output="ok", state=b"kept" if turn.input == "keep" else None)

    async with pooled({"a": Scripted(run, state_format="t/1")}) as pool:
        for text in ("keep", "nothing", "nothing"):
            await pool.ask(text, session="s1")
        assert [turn.state for turn in seen] == [None, b"kept", b"kept"]
        assert seen[1].state_version == seen[2].state_version


async def test_a_failed_turn_changes_no_state() -> None:
    """The state is that of the last completed turn; the failed one adds nothing unseen either."""
    agent = Remembering()
    async with pooled({"a": Scripted(agent.run, state_format="t/1")}) as pool:
        await pool.ask("a", session="s1")
        with pytest.raises(AgentFailed):
            await pool.ask("fail", session="s1")
        await pool.ask("b", session="s1")
        assert agent.seen[-1].state == b"a;" and agent.seen[-1].unseen == ()


async def test_a_function_agent_keeps_no_state() -> None:
    """An agent without a state format is given its input alone."""
    seen: list[TurnInput] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        seen.append(turn)
        return TurnEnd(output="ok")

    async with pooled({"a": Scripted(run)}) as pool:
        await pool.ask("a", session="s1")
        await pool.ask("b", session="s1")
        assert seen == [TurnInput("a"), TurnInput("b")]


async def test_state_of_a_foreign_format_is_refused() -> None:
    """State of another format is not handed over; a fork starts from the transcript."""
    old, new = Remembering(), Remembering()
    store = MemoryStore(clock=wall)
    async with pooled({"a": Scripted(old.run, state_format="old/1")}, store=store) as pool:
        await pool.ask("a", session="s1")
    async with pooled({"a": Scripted(new.run, state_format="new/1")}, store=store) as pool:
        with pytest.raises(AgentFailed, match=r"'old/1'.*'new/1'.*fork"):
            await pool.ask("b", session="s1")
        assert new.seen == []
        fork = await pool.fork_session("s1")
        await pool.ask("b", session=fork.id)
        assert new.seen[0].state is None
        assert [m.content for m in new.seen[0].unseen] == ["a", "ok"]


async def test_too_large_a_state_fails_the_turn() -> None:
    """Over `max_state_bytes`, by replacing, appending or at a checkpoint, the turn fails, typed."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        big = b"x" * 11
        if turn.input == "checkpoint":
            await ctx.checkpoint(big)
        return TurnEnd(state=big) if turn.input == "state" else TurnEnd(append=big)

    async with pooled({"a": Scripted(run, state_format="t/1")}, max_state_bytes=10) as pool:
        for text in ("state", "append", "checkpoint"):
            with pytest.raises(AgentFailed, match="11 bytes; a session may keep 10"):
                await pool.ask(text)


@pytest.mark.parametrize("state", ["text", 5, {"a": 1}])
async def test_state_that_is_not_bytes_fails_the_turn(state: object) -> None:
    """State is data: anything but bytes is refused, wherever it is given."""

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        match turn.input:
            case "checkpoint":
                await ctx.checkpoint(state)  # type: ignore[arg-type]
            case "append":
                return TurnEnd(append=state)  # type: ignore[arg-type]
        return TurnEnd(state=state)  # type: ignore[arg-type]

    async with pooled({"a": Scripted(run, state_format="t/1")}) as pool:
        for text in ("state", "append", "checkpoint"):
            with pytest.raises(AgentFailed, match="must be bytes"):
                await pool.ask(text, session="s1")
        assert pool.stats().agents[0].stopped == {}


async def test_a_crashed_turn_goes_on_from_its_checkpoint() -> None:
    """After a crash `state` is the last checkpoint of this turn and `resume` is set."""
    seen: list[tuple[bytes | None, bool, int]] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        seen.append((turn.state, turn.resume, ctx.attempt))
        if turn.input == "one":
            return TurnEnd(state=b"one", output="ok")
        if ctx.attempt < 3:
            await ctx.checkpoint((turn.state or b"") + b"+")
            await ctx.emit(TextDelta("lost with the crash"))
            raise SystemExit
        return TurnEnd(state=(turn.state or b"") + b".", output="done")

    async with pooled({"a": Scripted(run, state_format="t/1")}) as pool:
        await pool.ask("one", session="s1")
        turn = await pool.ask("two", session="s1")
        assert (turn.output, turn.attempt) == ("done", 3)
        assert seen[1:] == [(b"one", False, 1), (b"one+", True, 2), (b"one++", True, 3)]
        await pool.ask("one", session="s1")
        assert seen[-1] == (b"one++.", False, 1)


async def test_a_checkpoint_counts_for_its_own_turn_only() -> None:
    """A turn that fails after a checkpoint leaves the session as it was before."""
    seen: list[bytes | None] = []

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        seen.append(turn.state)
        if turn.input == "bad":
            await ctx.checkpoint(b"half way")
            raise ValueError
        return TurnEnd(state=b"good", output="ok")

    async with pooled({"a": Scripted(run, state_format="t/1")}) as pool:
        await pool.ask("good", session="s1")
        with pytest.raises(AgentFailed):
            await pool.ask("bad", session="s1")
        await pool.ask("good", session="s1")
        assert seen == [None, b"good", b"good"]


async def test_the_words_of_an_interrupted_turn_are_unseen() -> None:
    """What an interrupted turn was asked and said is given to the next turn, once."""
    agent, held = Remembering(), Held()

    async def run(turn: TurnInput, ctx: Context) -> TurnEnd:
        if turn.input == "long":
            await ctx.emit(TextDelta("half an ans"))
            await held(turn.input)
        return await agent.run(turn, ctx)

    async with pooled({"a": Scripted(run, state_format="t/1")}) as pool:
        await pool.ask("a", session="s1")
        await pool.submit("long", session="s1")
        await held.until_started(1)
        await pool.ask("b", session="s1", if_busy="interrupt")
        await pool.ask("c", session="s1")
        b, c = agent.seen[-2:]
        assert [(m.role, m.content) for m in b.unseen] == [
            ("user", "long"),
            ("assistant", "half an ans"),
        ]
        assert (b.state, c.state, c.unseen) == (b"a;", b"a;b;", ())


async def test_agents_of_one_session_share_the_transcript_and_keep_their_own_state() -> None:
    """What another agent heard and said is unseen until this one's next turn completed."""
    one, two = Remembering(), Remembering()
    agents = {
        "one": Scripted(one.run, state_format="one/1"),
        "two": AgentSpec(agent=Scripted(two.run, state_format="two/1")),
    }
    async with pooled(agents) as pool:
        alice = Principal("acme", "alice")
        for text, agent in (("a", "one"), ("b", "two"), ("c", "two"), ("d", "one"), ("e", "one")):
            await pool.ask(text, session="s1", agent=agent, principal=alice)
        assert [turn.state for turn in one.seen] == [None, b"a;", b"a;d;"]
        assert [turn.state for turn in two.seen] == [None, b"b;"]
        unseen = [[m.content for m in turn.unseen] for turn in (*two.seen, *one.seen)]
        assert unseen == [["a", "ok"], [], [], ["b", "ok", "c", "ok"], []]
