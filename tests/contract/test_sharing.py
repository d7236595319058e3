"""Sessions that change hands: claimed, released, left behind by owners that are gone."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from pool.errors import LeaseLost
from pool.events import Cursor
from pool.store.base import SessionKey, StateChange
from pool.store.sharing import Nudge
from tests.contract.nudges import joined
from tests.contract.steps import (
    OTHER,
    S1,
    S2,
    accept,
    answer,
    claim,
    commit,
    log_of,
    make_turn,
    said,
    stamped,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store


# --- claims


async def test_a_claim_hands_over_all_that_is_unfinished(opening: Opening) -> None:
    """The turns that have not ended, in order and with their numbers, and where the log ends."""
    async with opening() as (store, _):
        turns = [make_turn(str(number)) for number in range(4)]
        _, lease = await accept(store, turns[0], "a")
        for turn in turns[1:]:
            await store.accept(turn, owner="a")
        await commit(store, lease, turns[1])
        await store.release(lease)
        taken = await store.claim(S1, "b")
        assert taken is not None
        assert [(number, turn.input) for number, turn in taken.turns] == [
            (1, "0"),
            (3, "2"),
            (4, "3"),
        ]
        assert taken.end == Cursor(lease.epoch, 4)
        assert (taken.lease.key, taken.lease.owner) == (S1, "b")
        released = [await commit(store, taken.lease, turn) for _, turn in taken.turns]
        assert released == [False, False, True]
        log, _ = await log_of(store, S1)
        assert [event.seq for event in log] == list(range(1, 17))


async def test_a_claim_raises_the_epoch_every_time(opening: Opening) -> None:
    """Whoever claims, also the holder itself whose answer was lost, and although no time passes."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        epochs = [lease.epoch]
        for owner in "aabba":
            if owner != lease.owner:
                await store.release(lease)
            before, lease = lease, await claim(store, S1, owner)
            epochs.append(lease.epoch)
            with pytest.raises(LeaseLost):
                await store.append(before, stamped(said("late"), turn, before.epoch, 0))
        assert epochs == sorted(set(epochs))
        assert await commit(store, lease, turn)


async def test_what_another_holds_is_not_claimed(opening: Opening) -> None:
    """While its holder lives; nor is anything to be claimed where no turn waits."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        assert await store.claim(S1, "b") is None
        assert await store.claim(S2, "b") is None
        await commit(store, lease, turn)
        assert await store.claim(S1, "a") is None
        assert await store.claim(S1, "b") is None


async def test_one_of_many_claims_at_once_succeeds(opening: Opening) -> None:
    """However many owners reach for an orphan, one gets it."""
    async with opening() as (store, _):
        await store.accept(make_turn(), owner="")
        claims = await asyncio.gather(*(store.claim(S1, owner) for owner in "abcdefgh"))
        assert sum(claim is not None for claim in claims) == 1


async def test_a_claimed_turn_goes_on_from_its_checkpoint(opening: Opening) -> None:
    """What the last holder has stored is there for the next: record, checkpoint and events."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        turn.state, turn.attempt = "running", 1
        events = stamped(said("so ", "far"), turn, lease.epoch, 0)
        await store.append(lease, events, turn, StateChange("f/1", b"middle"))
        await store.release(lease)
        taken = await store.claim(S1, "b")
        assert taken is not None
        [(number, found)] = taken.turns
        assert (number, found.state, found.attempt) == (1, "running", 1)
        assert (await store.load(taken.lease, "helper", turn.id)).data == b"middle"
        assert (await log_of(store, S1))[0] == events


# --- release and orphans


async def test_what_is_released_is_an_orphan_until_it_is_claimed(opening: Opening) -> None:
    """The others are told at once; releasing again what nobody has yet changes nothing."""
    async with opening() as (store, _), joined(store, "a", "b", "c") as (_, b, c):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        assert list(await store.orphans(10)) == []
        for _ in range(2):
            await store.release(lease)
            assert list(await store.orphans(10)) == [S1]
        await b.hear(Nudge("work", S1))
        await c.hear(Nudge("work", S1))
        taken = await claim(store, S1, "b")
        assert list(await store.orphans(10)) == []
        assert await commit(store, taken, turn)


async def test_a_turn_for_whoever_comes(opening: Opening) -> None:
    """Accepted by nobody (`owner` is ""): all are told, and it is the first one's who claims it."""
    async with opening() as (store, _), joined(store, "a", "b") as (a, b):
        turn = make_turn()
        accepted = await store.accept(turn, owner="", with_state=True)
        assert accepted[1:4] == (True, None, "")
        assert (accepted.state, accepted.number) == (None, 1)
        await a.hear(Nudge("work", S1))
        await b.hear(Nudge("work", S1))
        again = await store.accept(turn, owner="")
        assert (again.new, again.lease, again.owner) == (True, None, "")
        assert list(await store.orphans(10)) == [S1]
        lease = await claim(store, S1, "b")
        assert await commit(store, lease, turn)
        assert list(await store.orphans(10)) == []


async def test_an_orphan_is_taken_over_by_who_accepts_its_next_turn(opening: Opening) -> None:
    """A turn for a session that nobody holds claims it, with what waits there."""
    async with opening() as (store, _):
        first, second = make_turn("first"), make_turn("second")
        await store.accept(first, owner="")
        accepted, lease = await accept(store, second, "b")
        assert accepted.number == 2
        assert list(await store.orphans(10)) == []
        assert await commit(store, lease, first) is False
        assert await commit(store, lease, second) is True


async def test_orphans_are_listed_up_to_a_limit(opening: Opening) -> None:
    """Of all tenants; those that are claimed make room for the others."""
    async with opening() as (store, _):
        await answer(store, key=SessionKey("acme", "idle"))
        for key in (S1, S2, OTHER):
            await store.accept(make_turn(key=key), owner="")
        found = list(await store.orphans(2))
        assert len(found) == 2
        for key in found:
            await claim(store, key, "a")
        rest = list(await store.orphans(2))
        assert len(rest) == 1
        assert {*found, *rest} == {S1, S2, OTHER}


async def test_a_turn_for_a_session_left_behind_says_so(opening: Opening) -> None:
    """Who is given a session by `accept` learns that it has unfinished turns; a claim has them."""
    async with opening() as (store, _):
        left = make_turn("left")
        await store.accept(left, owner="a")
        await store.leave("a")
        new = make_turn("new")
        accepted = await store.accept(new, owner="b")
        assert accepted.lease is not None
        assert accepted.others
        assert await store.accept(new, owner="b") == accepted
        taken = await store.claim(S1, "b")
        assert taken is not None
        assert [turn.id for _, turn in taken.turns] == [left.id, new.id]
        alone = await store.accept(make_turn("alone", key=S2), owner="b")
        assert not alone.others


@pytest.mark.parametrize("owner", ["b", ""])
async def test_a_turn_that_is_passed_on_has_not_begun(opening: Opening, owner: str) -> None:
    """Whoever accepts it may take for granted that it starts at once: where it runs, it does not
    yet.
    """
    async with opening() as (store, _):
        if owner:
            await store.accept(make_turn("held"), owner="a")
        turn = replace(make_turn("passed on"), state="running", attempt=1)
        accepted = await store.accept(turn, owner=owner)
        assert accepted.lease is None
        kept = await store.turn(turn.id)
        assert kept is not None
        assert (kept.state, kept.attempt, kept.input) == ("queued", 0, "passed on")


async def test_only_a_turn_that_comes_with_the_session_may_have_begun(opening: Opening) -> None:
    """Who holds the session already, and has forgotten, cannot have started the turn."""
    async with opening() as (store, _):
        await store.accept(make_turn("first"), owner="a")
        turn = replace(make_turn("second"), state="running", attempt=1)
        assert (await store.accept(turn, owner="a")).lease is None
        kept = await store.turn(turn.id)
        assert kept is not None
        assert (kept.state, kept.attempt) == ("queued", 0)


async def test_a_turn_that_starts_at_once_is_kept_as_begun(opening: Opening) -> None:
    """Should its process die with it, that counts as an attempt."""
    async with opening() as (store, _):
        turn = replace(make_turn("begun"), state="running", attempt=1)
        accepted = await store.accept(turn, owner="a")
        assert accepted.lease is not None
        await store.leave("a")
        taken = await store.claim(S1, "b")
        assert taken is not None
        ((_, kept),) = taken.turns
        assert (kept.state, kept.attempt) == ("running", 1)
