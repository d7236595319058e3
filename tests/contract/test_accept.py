"""`accept`: kept in order, once, and the session claimed if it is free."""

from __future__ import annotations

import pytest

from pool.errors import IdempotencyMismatch, SessionBusy
from pool.events import Cursor
from pool.store.base import Lease, StateChange
from tests.contract.steps import S1, S2, accept, answer, commit, make_turn
from tests.contract.stores import Opening, every_store

pytestmark = every_store


async def test_a_turn_makes_its_session_and_claims_it(opening: Opening) -> None:
    """The first turn of a session makes it and gives its owner the lease."""
    async with opening() as (store, _):
        turn = make_turn()
        accepted = await store.accept(turn, owner="a")
        assert accepted.new
        assert accepted.turn == turn
        assert accepted.owner == "a"
        assert accepted.lease == Lease(S1, "a", accepted.lease.epoch if accepted.lease else 0)
        assert accepted.end.seq == 0
        info = await store.session(S1)
        assert info is not None
        assert (info.id, info.turns, info.agent) == ("s1", 1, None)


async def test_an_epoch_is_at_least_the_time_in_milliseconds(opening: Opening) -> None:
    """The first epoch comes from the clock, so that a lost one is never given again."""
    async with opening() as (store, _):
        _, lease = await accept(store, make_turn())
        assert lease.epoch >= 1_600_000_000_000


async def test_turns_are_kept_in_the_order_of_acceptance(opening: Opening) -> None:
    """The turns of a session are listed as they were accepted, whoever accepted them."""
    async with opening() as (store, _):
        turns = [make_turn(str(number)) for number in range(5)]
        for number, turn in enumerate(turns):
            await store.accept(turn, owner="ab"[number % 2])
        page = await store.turns(S1, None, 10)
        assert [turn.input for turn in page.items] == ["0", "1", "2", "3", "4"]
        assert page.next is None


async def test_a_held_session_is_not_claimed(opening: Opening) -> None:
    """Another owner's turn is kept, but it gets no lease: it is told who has it."""
    async with opening() as (store, _):
        await accept(store, make_turn(), "a")
        second = make_turn()
        accepted = await store.accept(second, owner="b")
        assert (accepted.new, accepted.lease, accepted.owner) == (True, None, "a")
        assert await store.turn(second.id) == second


async def test_the_holder_is_not_given_its_lease_twice(opening: Opening) -> None:
    """A second turn of the holder's joins its session: it claims nothing."""
    async with opening() as (store, _):
        await accept(store, make_turn(), "a")
        accepted = await store.accept(make_turn(), owner="a")
        assert (accepted.new, accepted.lease, accepted.owner) == (True, None, "a")


async def test_a_claim_tells_where_the_log_ends(opening: Opening) -> None:
    """`end` is the cursor of the newest event; the next turn's events follow it."""
    async with opening() as (store, _):
        _, first = await accept(store, make_turn())
        await answer(store, key=S2)
        turn = (await store.turns(S1, None, 1)).items[0]
        await commit(store, first, turn)
        accepted, lease = await accept(store, make_turn())
        assert accepted.end == Cursor(first.epoch, 4)
        assert lease.epoch >= first.epoch


async def test_the_same_turn_again_is_kept_once(opening: Opening) -> None:
    """A caller that lost the answer gets the same one again."""
    async with opening() as (store, _):
        turn = make_turn()
        first = await store.accept(turn, owner="a")
        again = await store.accept(turn, owner="a")
        assert again == first
        assert len((await store.turns(S1, None, 10)).items) == 1


async def test_a_used_key_gives_the_earlier_turn(opening: Opening) -> None:
    """The same key and request: the same turn, before its end and after, and nothing kept."""
    async with opening() as (store, _):
        first = make_turn()
        accepted = await store.accept(first, owner="a", key="k")
        assert accepted.lease is not None
        for _ in range(2):
            again = await store.accept(make_turn(), owner="b", key="k")
            assert (again.new, again.turn.id, again.lease) == (False, first.id, None)
        await commit(store, accepted.lease, first)
        again = await store.accept(make_turn(), owner="b", key="k")
        assert (again.new, again.turn.id, again.turn.state) == (False, first.id, "completed")
        assert len((await store.turns(S1, None, 10)).items) == 1


async def test_a_key_belongs_to_its_session(opening: Opening) -> None:
    """The same key in another session is another key."""
    async with opening() as (store, _):
        await store.accept(make_turn(), owner="a", key="k")
        assert (await store.accept(make_turn(key=S2), owner="a", key="k")).new


async def test_a_used_key_with_another_request_is_refused(opening: Opening) -> None:
    """Another text, or another agent, under the same key: refused, and nothing kept."""
    async with opening() as (store, _):
        await store.accept(make_turn(), owner="a", key="k")
        for turn in (make_turn("other"), make_turn(agent="other")):
            with pytest.raises(IdempotencyMismatch):
                await store.accept(turn, owner="a", key="k")
            assert await store.turn(turn.id) is None
        assert len((await store.turns(S1, None, 10)).items) == 1


async def test_a_key_can_be_looked_up(opening: Opening) -> None:
    """`find_key` gives the turn and the digest of its request; None for a key never used."""
    async with opening() as (store, _):
        turn = make_turn()
        assert await store.find_key(S1, "k") is None
        await store.accept(turn, owner="a", key="k")
        assert await store.find_key(S1, "k") == (turn, turn.request.digest(turn.agent))
        assert await store.find_key(S1, "other") is None
        assert await store.find_key(S2, "k") is None


async def test_reject_busy_refuses_beside_an_unfinished_turn(opening: Opening) -> None:
    """`reject_busy`: refused, nothing kept and no key used up, until the session is idle."""
    async with opening() as (store, _):
        first = make_turn()
        _, lease = await accept(store, first)
        second = make_turn()
        with pytest.raises(SessionBusy):
            await store.accept(second, owner="a", key="k", reject_busy=True)
        assert await store.turn(second.id) is None
        assert await store.find_key(S1, "k") is None
        await commit(store, lease, first)
        assert (await store.accept(second, owner="a", key="k", reject_busy=True)).new


async def test_a_used_key_goes_before_reject_busy(opening: Opening) -> None:
    """A retry with its key gets its turn, although that very turn makes the session busy."""
    async with opening() as (store, _):
        await store.accept(make_turn(), owner="a", key="k")
        again = await store.accept(make_turn(), owner="a", key="k", reject_busy=True)
        assert not again.new


async def test_sessions_of_two_tenants_never_meet(opening: Opening) -> None:
    """The same session id of another tenant is another session."""
    async with opening() as (store, _):
        await accept(store, make_turn(), "a")
        other = make_turn(key=S1._replace(tenant="other"))
        _, lease = await accept(store, other, "b")
        assert lease.key.tenant == "other"
        assert len((await store.turns(S1, None, 10)).items) == 1


async def test_a_claim_brings_the_agents_state(opening: Opening) -> None:
    """With `with_state`: what `load` would answer, also to a caller that asks again."""
    async with opening() as (store, _):
        await answer(store, "one", change=StateChange("f/1", b"kept"))
        await answer(store, "two", agent="other", output="said")
        turn = make_turn()
        accepted = await store.accept(turn, owner="a", with_state=True)
        assert accepted.lease is not None
        assert accepted.state == await store.load(accepted.lease, "helper", turn.id)
        assert accepted.state is not None
        assert (accepted.state.format, accepted.state.data) == ("f/1", b"kept")
        assert [message.content for message in accepted.state.unseen] == ["two", "said"]
        again = await store.accept(turn, owner="a", with_state=True)
        assert again == accepted


async def test_a_state_comes_with_a_claim_only(opening: Opening) -> None:
    """Not if nobody asked, not to who claims nothing, not with an earlier turn."""
    async with opening() as (store, _):
        await answer(store, change=StateChange("f/1", b"kept"))
        assert (await store.accept(make_turn(), owner="a", key="k")).state is None
        for owner in ("a", "b", ""):
            accepted = await store.accept(make_turn(), owner=owner, with_state=True)
            assert (accepted.lease, accepted.state) == (None, None)
        earlier = await store.accept(make_turn(), owner="a", key="k", with_state=True)
        assert (earlier.new, earlier.state) == (False, None)
