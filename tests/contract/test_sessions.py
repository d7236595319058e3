"""Sessions: made, listed, outlived, deleted and forked."""

from __future__ import annotations

import pytest

from pool.errors import Conflict, NotFound, SessionBusy
from pool.events import START
from pool.store.base import SessionKey, StateChange, Store
from pool.turn import SessionInfo
from tests.contract.steps import (
    OTHER,
    S1,
    S2,
    accept,
    answer,
    commit,
    log_of,
    make_turn,
    transcript_of,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store


def _info(key: SessionKey, ttl_s: float | None = None) -> SessionInfo:
    return SessionInfo(id=key.id, agent="helper", metadata={"a": [1, {"b": None}]}, ttl_s=ttl_s)


async def _ids(store: Store, tenant: str, limit: int) -> list[list[str]]:
    """The ids of a tenant's sessions, page by page."""
    pages = []
    after = None
    while True:
        page = await store.sessions(tenant, after, limit)
        pages.append([info.id for info in page.items])
        after = page.next
        if after is None:
            return pages


async def test_a_session_is_made_as_asked(opening: Opening) -> None:
    """It keeps its agent, metadata and `ttl_s`; it has no turns and an empty log."""
    async with opening() as (store, _):
        made = await store.create_session(S1, _info(S1, ttl_s=60.0))
        assert made == await store.session(S1)
        assert (made.id, made.agent, made.ttl_s, made.turns) == ("s1", "helper", 60.0, 0)
        assert made.metadata == {"a": [1, {"b": None}]}
        assert made.cursor == str(START)
        assert 1_600_000_000 < made.created_at == made.updated_at


async def test_a_session_is_made_once(opening: Opening) -> None:
    """Making one that exists, by request or by a turn, is a conflict and changes nothing."""
    async with opening() as (store, _):
        await store.create_session(S1, _info(S1))
        await answer(store, key=S2)
        for key in (S1, S2):
            before = await store.session(key)
            with pytest.raises(Conflict):
                await store.create_session(key, SessionInfo(id=key.id, agent="other"))
            assert await store.session(key) == before
        assert await store.create_session(OTHER, _info(OTHER))


async def test_a_session_takes_turns_after_it_was_made(opening: Opening) -> None:
    """Its turns are counted; its cursor is the end of its log; what it was made with stays."""
    async with opening() as (store, pass_time):
        made = await store.create_session(S1, _info(S1))
        await pass_time(store.lease_s * 0.1)
        await answer(store)
        await answer(store)
        info = await store.session(S1)
        assert info is not None
        _, end = await log_of(store, S1)
        assert (info.turns, info.cursor) == (2, str(end))
        assert (info.agent, info.metadata) == (made.agent, made.metadata)
        assert info.created_at == made.created_at
        assert info.updated_at > made.updated_at


async def test_an_unknown_session_is_none(opening: Opening) -> None:
    """There is nothing of a session that was never made, nor of a turn never accepted."""
    async with opening() as (store, _):
        assert await store.session(S1) is None
        assert await store.turn(make_turn().id) is None
        assert await store.sessions("acme", None, 10) == ([], None)
        assert await store.delete_session(S1) is False


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
async def test_sessions_are_listed_in_the_order_of_their_making(
    opening: Opening, limit: int
) -> None:
    """Pages of any size have each of the tenant's sessions once, and nobody else's."""
    async with opening() as (store, _):
        for number in (3, 1, 4, 2):
            await answer(store, key=SessionKey("acme", f"n{number}"))
            await answer(store, key=SessionKey("other", f"o{number}"))
        await answer(store, key=SessionKey("acme", "n3"))
        pages = await _ids(store, "acme", limit)
        assert [each for page in pages for each in page] == ["n3", "n1", "n4", "n2"]
        assert all(len(page) == limit for page in pages[:-1])


async def test_a_page_of_sessions_is_right_while_they_come_and_go(opening: Opening) -> None:
    """The next page begins after the last one seen, also when that one is gone."""
    async with opening() as (store, _):
        for name in "abcd":
            await answer(store, key=SessionKey("acme", name))
        page = await store.sessions("acme", None, 2)
        await store.delete_session(SessionKey("acme", "b"))
        await answer(store, key=SessionKey("acme", "e"))
        rest = await store.sessions("acme", page.next, 10)
        assert [info.id for info in rest.items] == ["c", "d", "e"]


async def test_a_session_lives_as_long_as_its_ttl_after_its_last_turn(opening: Opening) -> None:
    """Each turn lets it live on; then it is gone with its turns, and its id is free."""
    async with opening() as (store, pass_time):
        await store.create_session(S1, _info(S1, ttl_s=store.lease_s))
        await pass_time(store.lease_s * 0.7)
        turn = await answer(store)
        await pass_time(store.lease_s * 0.7)
        assert await store.session(S1) is not None
        await pass_time(store.lease_s * 0.4)
        assert await store.session(S1) is None
        assert await store.turn(turn.id) is None
        assert await store.sessions("acme", None, 10) == ([], None)
        assert await transcript_of(store, S1) == []
        assert await store.delete_session(S1) is False
        accepted, _ = await accept(store, make_turn())
        assert accepted.end.seq == 0
        info = await store.session(S1)
        assert info is not None
        assert (info.turns, info.ttl_s) == (1, None)


async def test_a_session_with_an_unfinished_turn_does_not_expire(opening: Opening) -> None:
    """However long its turn takes."""
    async with opening() as (store, pass_time):
        await store.create_session(S1, _info(S1, ttl_s=store.lease_s * 0.3))
        turn = make_turn()
        _, lease = await accept(store, turn)
        await pass_time(store.lease_s * 0.6)
        assert await commit(store, lease, turn)
        assert await store.session(S1) is not None


async def test_deleting_forgets_everything(opening: Opening) -> None:
    """The session, its turns, events, transcript, states and keys are gone; the id is free."""
    async with opening() as (store, _):
        turn = make_turn()
        await store.create_session(S1, _info(S1))
        accepted = await store.accept(turn, owner="a", key="k")
        assert accepted.lease is not None
        await commit(store, accepted.lease, turn, change=StateChange("f/1", b"x"))
        assert await store.delete_session(S1) is True
        assert await store.session(S1) is None
        assert await store.turn(turn.id) is None
        assert await store.turn_start(turn.id) is None
        assert await store.find_key(S1, "k") is None
        assert await log_of(store, S1) == ([], START)
        assert await transcript_of(store, S1) == []
        again, lease = await accept(store, make_turn())
        assert again.end.seq == 0
        assert (await store.load(lease, "helper", "")).data is None


async def test_a_busy_session_is_not_deleted(opening: Opening) -> None:
    """While a turn has not ended, also one whose owner is gone, it is refused."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, lease = await accept(store, turn)
        for _ in range(2):
            with pytest.raises(SessionBusy):
                await store.delete_session(S1)
            await pass_time(store.lease_s * 1.1)
        assert await store.turn(turn.id) == turn
        await commit(store, lease, turn)
        assert await store.delete_session(S1) is True


async def test_a_fork_has_the_transcript_and_nothing_else(opening: Opening) -> None:
    """The new session begins with what was said; no turns, no events, no agent's state."""
    async with opening() as (store, _):
        await store.create_session(S1, _info(S1))
        await answer(store, "one", change=StateChange("f/1", b"x"))
        await answer(store, "two")
        forked = await store.fork_session(S1, S2, None)
        assert forked == await store.session(S2)
        assert (forked.id, forked.agent, forked.turns) == ("s2", "helper", 0)
        assert await transcript_of(store, S2) == await transcript_of(store, S1)
        assert await log_of(store, S2) == ([], START)
        assert await store.turns(S2, None, 10) == ([], None)
        _, lease = await accept(store, make_turn(key=S2))
        state = await store.load(lease, "helper", "")
        assert state.data is None
        assert [message.content for message in state.unseen] == ["one", "hi", "two", "hi"]


async def test_a_fork_goes_its_own_way(opening: Opening) -> None:
    """What is said later in one is not said in the other; deleting one leaves the other."""
    async with opening() as (store, _):
        await answer(store, "one")
        await store.fork_session(S1, S2, None)
        await answer(store, "left")
        await answer(store, "right", key=S2)
        await store.delete_session(S1)
        said = [message.content for message in await transcript_of(store, S2)]
        assert said == ["one", "hi", "right", "hi"]


async def test_a_fork_goes_through_a_turn(opening: Opening) -> None:
    """Up to and including the turn named; one that said nothing stands for its place."""
    async with opening() as (store, _):
        one = await answer(store, "one")
        failed = await answer(store, "no", state="failed")
        two = await answer(store, "two")
        await answer(store, "three")
        for number, (turn, texts) in enumerate(
            [(one, ["one", "hi"]), (failed, ["one", "hi"]), (two, ["one", "hi", "two", "hi"])]
        ):
            new = SessionKey("acme", f"fork{number}")
            await store.fork_session(S1, new, turn.id)
            assert [message.content for message in await transcript_of(store, new)] == texts


async def test_a_fork_of_a_fork_goes_through_an_old_turn(opening: Opening) -> None:
    """A turn of the first session is known in a fork by what it said."""
    async with opening() as (store, _):
        one = await answer(store, "one")
        await answer(store, "two")
        await store.fork_session(S1, S2, None)
        third = SessionKey("acme", "s3")
        await store.fork_session(S2, third, one.id)
        assert [message.content for message in await transcript_of(store, third)] == ["one", "hi"]


async def test_a_fork_needs_its_session_and_turn_and_a_free_id(opening: Opening) -> None:
    """`NotFound` for what is not there, `Conflict` for an id that is taken; nothing is made."""
    async with opening() as (store, _):
        with pytest.raises(NotFound):
            await store.fork_session(S1, S2, None)
        await answer(store)
        elsewhere = await answer(store, key=OTHER)
        with pytest.raises(NotFound):
            await store.fork_session(S1, S2, elsewhere.id)
        with pytest.raises(Conflict):
            await store.fork_session(S1, S1, None)
        assert await store.session(S2) is None
