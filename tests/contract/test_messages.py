"""The transcript: what was said, oldest first, in pages that stay right while it grows."""

from __future__ import annotations

import pytest

from pool.errors import InvalidRequest
from pool.store.base import Store
from pool.turn import Message, State, messages
from tests.contract.steps import (
    S1,
    S2,
    accept,
    answer,
    commit,
    finish,
    make_turn,
    transcript_of,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store

BAD_CURSORS = ["", "x", "-1", "1.5", " 1", "१", "9" * 40, "1-2", "\x00"]


@pytest.mark.parametrize("state", ["completed", "cancelled", "interrupted"])
async def test_what_was_said_is_in_the_transcript(opening: Opening, state: State) -> None:
    """A turn that was answered, or stopped while it spoke, adds its input and its output."""
    async with opening() as (store, _):
        turn = await answer(store, "why", state=state, output="because")
        assert await transcript_of(store, S1) == [
            Message("user", "why", turn.id, turn.created_at),
            Message("assistant", "because", turn.id, turn.created_at + 1),
        ]


@pytest.mark.parametrize("state", ["failed", "expired"])
async def test_a_failed_turn_adds_nothing(opening: Opening, state: State) -> None:
    """Neither its input nor what it said is in the transcript."""
    async with opening() as (store, _):
        await answer(store, state=state)
        assert await transcript_of(store, S1) == []


async def test_a_forgotten_turn_adds_nothing(opening: Opening) -> None:
    """A turn that was rolled back was never said."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        turn.forgotten = True
        await store.commit(lease, finish(turn, "cancelled"), [])
        assert await transcript_of(store, S1) == []
        kept = await store.turn(turn.id)
        assert kept is not None
        assert kept.forgotten


async def test_a_turn_without_an_answer_adds_its_input(opening: Opening) -> None:
    """Cancelled before the first word: only the user has said something."""
    async with opening() as (store, _):
        await answer(store, "why", state="cancelled", output="")
        await answer(store, "well")
        said = [(each.role, each.content) for each in await transcript_of(store, S1)]
        assert said == [("user", "why"), ("user", "well"), ("assistant", "hi")]


async def test_an_unfinished_turn_has_said_nothing_yet(opening: Opening) -> None:
    """A turn enters the transcript with its commit."""
    async with opening() as (store, _):
        await store.accept(make_turn(), owner="a")
        assert await transcript_of(store, S1) == []


async def test_the_transcript_is_in_the_order_of_commits(opening: Opening) -> None:
    """A turn that went first (`interrupt`) comes first."""
    async with opening() as (store, _):
        first, second = make_turn("first"), make_turn("second")
        _, lease = await accept(store, first)
        await store.accept(second, owner="a")
        await commit(store, lease, second)
        await commit(store, lease, first)
        assert await transcript_of(store, S1) == [*messages(second), *messages(first)]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
async def test_pages_join_to_the_whole(opening: Opening, limit: int) -> None:
    """Pages of any size have every message once, in order; the last has no `next`."""
    async with opening() as (store, _):
        for number in range(4):
            await answer(store, str(number), output="" if number == 1 else "ok", state="cancelled")
        whole = await transcript_of(store, S1)
        assert len(whole) == 7
        assert await transcript_of(store, S1, limit) == whole
        page = await store.messages(S1, None, 7)
        assert page.next is None


async def test_a_page_is_right_while_the_transcript_grows(opening: Opening) -> None:
    """A cursor taken before more was said leads to the same next message."""
    async with opening() as (store, _):
        await answer(store, "one")
        await answer(store, "two")
        page = await store.messages(S1, None, 1)
        await answer(store, "three")
        rest = await store.messages(S1, page.next, 100)
        assert [message.content for message in rest.items] == ["hi", "two", "hi", "three", "hi"]


async def test_turns_have_pages(opening: Opening) -> None:
    """The list of turns comes in pages that stay right while turns are added."""
    async with opening() as (store, _):
        turns = [await answer(store, str(number)) for number in range(3)]
        page = await store.turns(S1, None, 2)
        assert [turn.id for turn in page.items] == [turns[0].id, turns[1].id]
        turns.append(await answer(store, "more"))
        rest = await store.turns(S1, page.next, 2)
        assert [turn.id for turn in rest.items] == [turns[2].id, turns[3].id]
        assert rest.next is None


@pytest.mark.parametrize("cursor", BAD_CURSORS)
@pytest.mark.parametrize("key", [S1, S2], ids=["known", "unknown"])
async def test_a_malformed_cursor_is_an_invalid_request(
    opening: Opening, cursor: str, key: object
) -> None:
    """What is no cursor is named as such, whether the session exists or not."""
    async with opening() as (store, _):
        await answer(store)
        await _refuses(store, S1 if key == S1 else S2, cursor)


async def _refuses(store: Store, key: object, cursor: str) -> None:
    session = S1 if key == S1 else S2
    for call in (store.messages(session, cursor, 10), store.turns(session, cursor, 10)):
        with pytest.raises(InvalidRequest) as caught:
            await call
        assert caught.value.field == "cursor"
    with pytest.raises(InvalidRequest) as caught:
        await store.sessions("acme" if session == S1 else "nobody", cursor, 10)
    assert caught.value.field == "cursor"


async def test_an_unknown_session_has_said_nothing(opening: Opening) -> None:
    """Reading what is not there gives empty pages."""
    async with opening() as (store, _):
        assert await store.messages(S1, None, 10) == ([], None)
        assert await store.turns(S1, None, 10) == ([], None)


async def test_what_was_cancelled_before_it_ran_adds_nothing(opening: Opening) -> None:
    """A turn that was taken back while it waited is not in the transcript."""
    async with opening() as (store, _):
        turn = make_turn("never heard")
        _, lease = await accept(store, turn)
        finish(turn, "cancelled", "").attempt = 0
        await store.commit(lease, turn, [])
        assert await transcript_of(store, S1) == []
