"""Leases and epochs: one writer at a time, and a late one changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from pool.errors import Conflict, Internal, LeaseLost, NotFound
from pool.events import TurnStarted
from pool.store.base import Lease, StateChange, Store
from pool.turn import Turn
from tests.contract.steps import (
    S1,
    S2,
    accept,
    answer,
    commit,
    finish,
    log_of,
    make_turn,
    said,
    stamped,
    transcript_of,
)
from tests.contract.stores import Opening, every_store

pytestmark = every_store

Write = Callable[[Store, Lease, Turn], Awaitable[object]]


async def _append(store: Store, lease: Lease, turn: Turn) -> None:
    await store.append(lease, stamped(said("late"), turn, lease.epoch, 0))


async def _checkpoint(store: Store, lease: Lease, turn: Turn) -> None:
    await store.append(lease, [], turn, StateChange("f/1", b"late"))


async def _commit(store: Store, lease: Lease, turn: Turn) -> None:
    await store.commit(lease, turn, stamped(said("late"), turn, lease.epoch, 0))


async def _load(store: Store, lease: Lease, turn: Turn) -> None:
    await store.load(lease, "helper", turn.id)


@pytest.mark.parametrize("write", [_append, _checkpoint, _commit, _load])
async def test_a_late_write_is_refused(opening: Opening, write: Write) -> None:
    """A is paused past its lease, B runs the session's turn, A goes on: all it does is refused."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, old = await accept(store, turn, "a")
        await pass_time(store.lease_s * 1.1)
        _, new = await accept(store, make_turn("next"), "b")
        with pytest.raises(LeaseLost):
            await write(store, old, make_turn() if write is _commit else turn)
        assert (await log_of(store, S1))[0] == []
        assert await commit(store, new, (await store.turns(S1, None, 1)).items[0]) is False
        with pytest.raises(LeaseLost):
            await write(store, old, turn)
        assert [message.content for message in await transcript_of(store, S1)] == ["hello", "hi"]
        assert (await store.load(new, "helper", turn.id)).data is None


async def test_a_late_commit_of_a_turn_that_another_committed_is_refused(opening: Opening) -> None:
    """Two owners ran the same turn: the one that held it last commits, the other learns it lost."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, old = await accept(store, turn, "a")
        await pass_time(store.lease_s * 1.1)
        accepted, new = await accept(store, make_turn("next"), "b")
        (taken_over, following) = (await store.turns(S1, None, 2)).items
        await commit(store, new, taken_over, output="by b")
        with pytest.raises(LeaseLost):
            await store.commit(old, finish(turn, output="by a"), [])
        assert await commit(store, new, following) is True
        kept = await store.turn(turn.id)
        assert kept is not None
        assert kept.output == "by b"
        assert accepted.turn.id == following.id


@pytest.mark.parametrize("forged", ["owner", "earlier epoch", "later epoch", "session"])
async def test_a_lease_must_match_in_every_part(opening: Opening, forged: str) -> None:
    """Another owner with the right epoch, the right owner with another epoch: refused."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await answer(store, key=S2)
        wrong = {
            "owner": Lease(S1, "b", lease.epoch),
            "earlier epoch": Lease(S1, "a", lease.epoch - 1),
            "later epoch": Lease(S1, "a", lease.epoch + 1),
            "session": Lease(S2._replace(id="none"), "a", lease.epoch),
        }[forged]
        with pytest.raises(LeaseLost):
            await store.append(wrong, stamped(said("x"), turn, wrong.epoch, 0))
        with pytest.raises(LeaseLost):
            await store.commit(wrong, finish(turn), [])
        assert (await log_of(store, S1))[0] == []


async def test_another_owner_gets_a_later_epoch(opening: Opening) -> None:
    """Each change of the owner raises the epoch, although no time passes."""
    async with opening() as (store, _):
        epochs = []
        for owner in "abab":
            turn = make_turn()
            _, lease = await accept(store, turn, owner)
            await commit(store, lease, turn)
            epochs.append(lease.epoch)
        assert epochs == sorted(set(epochs))


async def test_the_last_owner_goes_on_in_no_earlier_epoch(opening: Opening) -> None:
    """Who claims again what nobody else held meanwhile may keep its epoch; it writes as before."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, first = await accept(store, turn)
        await commit(store, first, turn)
        await pass_time(store.lease_s * 1.1)
        again = make_turn()
        _, second = await accept(store, again)
        assert second.epoch >= first.epoch
        assert await commit(store, second, again)


async def test_an_owner_that_was_silent_keeps_what_nobody_took(opening: Opening) -> None:
    """Past its lease it may be taken over; until then its holder goes on as if nothing had been."""
    async with opening() as (store, pass_time):
        turn, second = make_turn(), make_turn()
        _, lease = await accept(store, turn, "a")
        await pass_time(store.lease_s * 1.1)
        accepted = await store.accept(second, owner="a")
        assert (accepted.lease, accepted.owner) == (None, "a")
        assert (await store.accept(make_turn(), owner="b")).owner == "a"
        assert await commit(store, lease, turn) is False
        assert await commit(store, lease, second) is False


async def test_writing_keeps_the_lease(opening: Opening) -> None:
    """A holder that writes now and then is not taken over, however long its turn takes."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        for seq in range(3):
            await pass_time(store.lease_s * 0.6)
            await store.append(lease, stamped(said("x"), turn, lease.epoch, seq))
        assert (await store.accept(make_turn(), owner="b")).lease is None


async def test_what_the_last_holder_queued_goes_with_the_session(opening: Opening) -> None:
    """Who takes a session over finds the turns that have not ended, in their order."""
    async with opening() as (store, pass_time):
        queued = [make_turn(str(number)) for number in range(3)]
        for turn in queued:
            await store.accept(turn, owner="a")
        await pass_time(store.lease_s * 1.1)
        _, lease = await accept(store, make_turn("3"), "b")
        turns = (await store.turns(S1, None, 10)).items
        assert [turn.input for turn in turns if not turn.ended] == ["0", "1", "2", "3"]
        released = [await commit(store, lease, turn) for turn in turns]
        assert released == [False, False, False, True]


async def test_a_commit_releases_the_lease_with_the_last_turn(opening: Opening) -> None:
    """While other turns wait the session stays held; with the last it is free for anybody."""
    async with opening() as (store, _):
        first, second = make_turn(), make_turn()
        _, lease = await accept(store, first, "a")
        await store.accept(second, owner="a")
        assert await commit(store, lease, first) is False
        assert (await store.accept(make_turn(), owner="b")).lease is None
        third = (await store.turns(S1, None, 10)).items[2]
        assert await commit(store, lease, second) is False
        assert await commit(store, lease, third) is True
        _, taken = await accept(store, make_turn(), "b")
        assert taken.epoch > lease.epoch


async def test_a_released_lease_writes_no_more(opening: Opening) -> None:
    """Who appends after its last commit is refused, and does not hold the session by it."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await commit(store, lease, turn)
        log, end = await log_of(store, S1)
        with pytest.raises(LeaseLost):
            await store.append(lease, stamped(said("late"), turn, lease.epoch, end.seq))
        assert (await log_of(store, S1))[0] == log
        await accept(store, make_turn(), "b")


async def test_a_turn_is_committed_once(opening: Opening) -> None:
    """Committing an ended turn again changes nothing and answers the same."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        change = StateChange("f/1", b"one")
        assert await commit(store, lease, turn, change=change) is True
        log = await log_of(store, S1)
        again = stamped(said("again"), turn, lease.epoch, log[1].seq)
        assert await store.commit(lease, turn, again, StateChange("f/1", b"two")) is True
        assert await log_of(store, S1) == log
        assert len(await transcript_of(store, S1)) == 2
        _, lease = await accept(store, make_turn())
        assert (await store.load(lease, "helper", "")).data == b"one"


async def test_an_ended_turn_takes_no_more_events(opening: Opening) -> None:
    """An append for a turn that has ended, or was never accepted, is refused as a whole."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        await store.accept(make_turn(), owner="a")
        await commit(store, lease, turn)
        log, end = await log_of(store, S1)
        for wrong in (turn, make_turn()):
            with pytest.raises(Conflict):
                await store.append(lease, stamped(said("x"), turn, lease.epoch, end.seq), wrong)
        assert (await log_of(store, S1))[0] == log


async def test_a_turn_that_was_never_accepted_cannot_be_committed(opening: Opening) -> None:
    """`commit` of an unknown turn is refused and changes nothing."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        stranger = finish(make_turn())
        with pytest.raises(NotFound):
            await store.commit(lease, stranger, stamped(said("x"), stranger, lease.epoch, 0))
        assert await transcript_of(store, S1) == []
        assert (await log_of(store, S1))[0] == []


async def test_append_keeps_the_turn_as_it_is(opening: Opening) -> None:
    """What is appended with a turn is seen together: its events and its new state."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn)
        turn.state = "running"
        turn.attempt = 1
        events = stamped([TurnStarted(at=2.0)], turn, lease.epoch, 0)
        await store.append(lease, events, turn)
        kept = await store.turn(turn.id)
        assert kept is not None
        assert (kept.state, kept.attempt) == ("running", 1)
        assert (await log_of(store, S1))[0] == events


async def test_a_checkpoint_needs_its_turn(opening: Opening) -> None:
    """A state given without a turn belongs to nobody: a defect of the caller."""
    async with opening() as (store, _):
        _, lease = await accept(store, make_turn())
        with pytest.raises(Internal):
            await store.append(lease, [], None, StateChange("f/1", b"x"))
