"""What an agent keeps of a session, and what it has not seen of it."""

from __future__ import annotations

import pytest

from pool.store.base import AgentState, Lease, StateChange, Store
from pool.turn import Message, State, Turn
from tests.contract.steps import S1, S2, accept, answer, commit, make_turn
from tests.contract.stores import Opening, every_store

pytestmark = every_store


async def _load(store: Store, agent: str = "helper") -> AgentState:
    """What the agent would get in a new turn, which then ends without a word."""
    turn = make_turn(agent=agent)
    _, lease = await accept(store, turn)
    state = await store.load(lease, agent, turn.id)
    await commit(store, lease, turn, state="failed")
    return state


def _texts(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages]


async def test_a_new_session_has_no_state(opening: Opening) -> None:
    """Before its first turn an agent keeps nothing and has missed nothing."""
    async with opening() as (store, _):
        assert await _load(store) == AgentState("", None, 0, ())


async def test_a_completed_turn_leaves_a_state_that_has_seen_it(opening: Opening) -> None:
    """The next turn gets the state and its format, and nothing is unseen."""
    async with opening() as (store, _):
        await answer(store, change=StateChange("f/1", b"state"))
        state = await _load(store)
        assert (state.format, state.data, state.unseen) == ("f/1", b"state", ())


async def test_a_state_is_replaced_or_grows(opening: Opening) -> None:
    """`append` adds to what is there; without it the state is replaced."""
    async with opening() as (store, _):
        await answer(store, change=StateChange("f/1", b"a"))
        await answer(store, change=StateChange("f/1", b"b", append=True))
        await answer(store, change=StateChange("f/1", b"c", append=True))
        assert (await _load(store)).data == b"abc"
        await answer(store, change=StateChange("f/1", b"d", append=True))
        assert (await _load(store)).data == b"abcd"
        await answer(store, change=StateChange("f/2", b"new"))
        state = await _load(store)
        assert (state.format, state.data) == ("f/2", b"new")


async def test_appending_to_nothing_begins_a_state(opening: Opening) -> None:
    """The first bytes that are appended are the state; so are those of another format."""
    async with opening() as (store, _):
        await answer(store, change=StateChange("f/1", b"a", append=True))
        assert (await _load(store)).data == b"a"
        await answer(store, change=StateChange("f/2", b"b", append=True))
        state = await _load(store)
        assert (state.format, state.data) == ("f/2", b"b")


async def test_the_version_changes_with_the_state(opening: Opening) -> None:
    """Each change gives a version never seen before; what changes nothing keeps it."""
    async with opening() as (store, _):
        versions = []
        for append in (False, True, True, False):
            await answer(store, change=StateChange("f/1", b"x", append=append))
            versions.append((await _load(store)).version)
        await answer(store)
        assert (await _load(store)).version == versions[-1]
        assert len(set(versions)) == 4
        await store.delete_session(S1)
        await answer(store, change=StateChange("f/1", b"x"))
        assert (await _load(store)).version not in versions


@pytest.mark.parametrize("state", ["cancelled", "interrupted"])
async def test_a_turn_that_was_stopped_leaves_the_state_as_it_was(
    opening: Opening, state: State
) -> None:
    """What was said in it is in the transcript, and unseen by its own agent."""
    async with opening() as (store, _):
        await answer(store, "one", change=StateChange("f/1", b"kept"))
        await answer(store, "two", state=state, output="well", change=StateChange("f/1", b"no"))
        found = await _load(store)
        assert found.data == b"kept"
        assert _texts(found.unseen) == ["two", "well"]
        await answer(store, "three", change=StateChange("f/1", b"all"))
        assert (await _load(store)).unseen == ()


@pytest.mark.parametrize("state", ["failed", "expired"])
async def test_a_turn_that_failed_adds_nothing(opening: Opening, state: State) -> None:
    """Neither its state nor its words count."""
    async with opening() as (store, _):
        await answer(store, "one", change=StateChange("f/1", b"kept"))
        await answer(store, "two", state=state, change=StateChange("f/1", b"no"))
        found = await _load(store)
        assert (found.data, found.unseen) == (b"kept", ())


async def test_a_completed_turn_without_a_change_is_seen(opening: Opening) -> None:
    """The state stays as it is; the agent was there, so nothing of the turn is unseen."""
    async with opening() as (store, _):
        await answer(store, "one", change=StateChange("f/1", b"kept"))
        await answer(store, "two")
        found = await _load(store)
        assert (found.data, found.unseen) == (b"kept", ())


async def test_another_agents_words_are_unseen(opening: Opening) -> None:
    """Each agent keeps its own state; what others said since its last turn is unseen by it."""
    async with opening() as (store, _):
        await answer(store, "1", agent="x", output="x1", change=StateChange("x/1", b"x"))
        await answer(store, "2", agent="y", output="y2", change=StateChange("y/1", b"y"))
        await answer(store, "3", agent="y", output="y3", change=StateChange("y/1", b"yy"))
        x, y, z = [await _load(store, agent) for agent in "xyz"]
        assert (x.format, x.data, _texts(x.unseen)) == ("x/1", b"x", ["2", "y2", "3", "y3"])
        assert (y.format, y.data, y.unseen) == ("y/1", b"yy", ())
        assert (z.data, _texts(z.unseen)) == (None, ["1", "x1", "2", "y2", "3", "y3"])


async def _paused(store: Store, change: StateChange) -> tuple[Turn, Lease]:
    turn = make_turn("ask")
    _, lease = await accept(store, turn)
    await store.append(lease, [], turn, change)
    return turn, lease


async def test_a_checkpoint_belongs_to_its_turn(opening: Opening) -> None:
    """`load` for the turn gives its checkpoint; for any other turn what was there before."""
    async with opening() as (store, _):
        await answer(store, change=StateChange("f/1", b"before"))
        turn, lease = await _paused(store, StateChange("f/1", b"middle"))
        found = await store.load(lease, "helper", turn.id)
        before = await store.load(lease, "helper", make_turn().id)
        assert (found.data, found.unseen) == (b"middle", ())
        assert before.data == b"before"
        assert found.version != before.version


async def test_a_checkpoint_grows(opening: Opening) -> None:
    """Appended checkpoints add to the agent's state, which itself stays as it was."""
    async with opening() as (store, _):
        await answer(store, change=StateChange("f/1", b"a"))
        turn, lease = await _paused(store, StateChange("f/1", b"b", append=True))
        await store.append(lease, [], turn, StateChange("f/1", b"c", append=True))
        assert (await store.load(lease, "helper", turn.id)).data == b"abc"
        await commit(store, lease, turn, state="cancelled")
        assert (await _load(store)).data == b"a"


async def test_a_checkpoint_goes_with_its_turn(opening: Opening) -> None:
    """However a turn ends, its checkpoint is gone; a completed turn's own state counts."""
    async with opening() as (store, _):
        ends: list[tuple[State, bytes | None]]
        ends = [("failed", None), ("cancelled", None), ("completed", b"end")]
        for state, data in ends:
            turn, lease = await _paused(store, StateChange("f/1", b"middle"))
            await commit(store, lease, turn, state=state, change=StateChange("f/1", b"end"))
            following = make_turn()
            _, lease = await accept(store, following)
            for turn_id in (turn.id, following.id):
                assert (await store.load(lease, "helper", turn_id)).data == data
            await commit(store, lease, following, state="failed")


async def test_a_checkpoint_survives_its_owner(opening: Opening) -> None:
    """Who takes the session over goes on from the checkpoint."""
    async with opening() as (store, pass_time):
        turn, _ = await _paused(store, StateChange("f/1", b"middle"))
        await pass_time(store.lease_s * 1.1)
        _, lease = await accept(store, make_turn("next"), "b")
        assert (await store.load(lease, "helper", turn.id)).data == b"middle"


async def test_states_of_sessions_are_apart(opening: Opening) -> None:
    """An agent's state belongs to one session."""
    async with opening() as (store, _):
        await answer(store, key=S2, change=StateChange("f/1", b"two"))
        assert (await _load(store)).data is None
