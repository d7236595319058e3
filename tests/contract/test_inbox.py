"""Letters: what others have to say to whoever holds a session."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from pool.errors import LeaseLost
from pool.store.base import Lease, Store
from pool.store.sharing import CancelTurn, DecideCall, Letter, Nudge, Signal, TurnArrived
from tests.contract.nudges import joined
from tests.contract.steps import OTHER, S1, S2, accept, answer, commit, make_turn
from tests.contract.stores import Opening, every_store

pytestmark = every_store


async def _letters(store: Store, lease: Lease, after: str = "") -> list[TurnArrived | Signal]:
    return [letter.content for letter in (await store.inbox(lease, after)).letters]


# --- turns


async def test_a_turn_for_a_session_that_another_holds_is_a_letter(opening: Opening) -> None:
    """The holder is told, and finds the turn and its number; who accepted it claims nothing."""
    async with opening() as (store, _), joined(store, "a", "b") as (a, _):
        _, lease = await accept(store, make_turn("first"), "a")
        second = make_turn("second")
        accepted = await store.accept(second, owner="b", with_state=True)
        assert accepted[1:4] == (True, None, "a")
        assert (accepted.state, accepted.number) == (None, 2)
        await a.hear(Nudge("inbox", S1))
        inbox = await store.inbox(lease, "")
        assert [letter.content for letter in inbox.letters] == [TurnArrived(second.id, 2)]
        assert inbox.turns == {second.id: second}
        assert await commit(store, lease, inbox.turns[second.id]) is False


async def test_a_turn_for_whoever_comes_is_a_letter_where_a_session_is_held(
    opening: Opening,
) -> None:
    """It is the holder's, as the session's turns are."""
    async with opening() as (store, _), joined(store, "a") as (a,):
        _, lease = await accept(store, make_turn(), "a")
        turn = make_turn()
        assert (await store.accept(turn, owner="")).owner == "a"
        await a.hear(Nudge("inbox", S1))
        assert await _letters(store, lease) == [TurnArrived(turn.id, 2)]
        assert list(await store.orphans(10)) == []


async def test_a_turn_is_one_letter(opening: Opening) -> None:
    """Accepted again, by its id or its key, it does not arrive again; nor do the holder's own."""
    async with opening() as (store, _):
        _, lease = await accept(store, make_turn(), "a")
        await store.accept(make_turn(), owner="a")
        turn = make_turn()
        for _ in range(2):
            assert (await store.accept(turn, owner="b", key="k")).owner == "a"
            await store.accept(make_turn(), owner="b", key="k")
        assert await _letters(store, lease) == [TurnArrived(turn.id, 3)]


async def test_turns_are_numbered_in_the_order_of_acceptance(opening: Opening) -> None:
    """Whoever accepts them, so that a holder sees which one it misses; a retry has its number."""
    async with opening() as (store, _):
        numbers = []
        turns = [make_turn() for _ in range(5)]
        for turn, owner in zip(turns, "aba b", strict=True):
            numbers.append((await store.accept(turn, owner=owner.strip())).number)
        assert numbers == [1, 2, 3, 4, 5]
        assert (await store.accept(turns[2], owner="a")).number == 3
        await answer(store, key=S2)
        assert (await store.accept(make_turn(key=S2), owner="a")).number == 2


# --- places


async def test_letters_are_in_order_and_each_has_a_place(opening: Opening) -> None:
    """Behind a letter's place come those after it; those up to it are forgotten."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        assert await store.inbox(lease, "") == ([], {}, False)
        signals = [DecideCall(turn.id, f"c{number}", "approve", "eve") for number in range(4)]
        for signal in signals:
            assert await store.signal(S1, signal)
        letters = (await store.inbox(lease, "")).letters
        assert [letter.content for letter in letters] == signals
        assert (await store.inbox(lease, "")).letters == letters
        assert await _letters(store, lease, letters[1].place) == signals[2:]
        assert await _letters(store, lease) == signals[2:]
        assert await _letters(store, lease, letters[3].place) == []
        assert await store.signal(S1, CancelTurn(turn.id))
        assert await _letters(store, lease, letters[3].place) == [CancelTurn(turn.id)]


async def test_a_place_is_good_as_long_as_its_session(opening: Opening) -> None:
    """What comes after the session was idle, and held by another, is behind the places before."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        await store.signal(S1, CancelTurn(turn.id))
        [read] = (await store.inbox(lease, "")).letters
        await commit(store, lease, turn)
        await answer(store, owner="b")
        again = make_turn()
        _, lease = await accept(store, again, "a")
        await store.signal(S1, CancelTurn(again.id))
        assert await _letters(store, lease, read.place) == [CancelTurn(again.id)]


async def test_inboxes_of_sessions_are_apart(opening: Opening) -> None:
    """Also under the same id of another tenant."""
    async with opening() as (store, _):
        leases: list[Lease] = []
        for key in (S1, OTHER):
            turn = make_turn(key=key)
            leases.append((await accept(store, turn, "a"))[1])
            await store.signal(key, CancelTurn(turn.id))
        for lease in leases:
            [letter] = (await store.inbox(lease, "")).letters
            kept = await store.turn(letter.content.turn_id)
            assert kept is not None
            assert kept.tenant == lease.key.tenant


# --- signals


SIGNALS = [
    CancelTurn("t"),
    DecideCall("t", "c", "approve", "eve"),
    DecideCall("t", "c", "deny", "ève\n\x00", 'too "dear" {}:*', asked=7),
]


@pytest.mark.parametrize("signal", SIGNALS)
async def test_a_signal_reaches_the_holder(opening: Opening, signal: Signal) -> None:
    """As it was left, and the holder is nudged."""
    async with opening() as (store, _), joined(store, "a") as (a,):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        signal = replace(signal, turn_id=turn.id)
        assert await store.signal(S1, signal) is True
        await a.hear(Nudge("inbox", S1))
        [letter] = (await store.inbox(lease, "")).letters
        assert letter == Letter(letter.place, signal)


async def test_a_question_is_decided_once(opening: Opening) -> None:
    """Of many decisions at once, and later ones, one counts; each call has its own questions."""
    async with opening() as (store, _):
        turn, other = make_turn(), make_turn()
        _, lease = await accept(store, turn, "a")
        await store.accept(other, owner="a")
        taken = await asyncio.gather(
            *(store.signal(S1, DecideCall(turn.id, "c", "approve", f"u{n}")) for n in range(10))
        )
        assert sorted(taken) == [False] * 9 + [True]
        [letter] = (await store.inbox(lease, "")).letters
        await store.inbox(lease, letter.place)
        assert await store.signal(S1, DecideCall(turn.id, "c", "deny", "eve")) is False
        assert await _letters(store, lease) == []
        again = DecideCall(turn.id, "c", "deny", "eve", asked=9)
        for decision in (
            DecideCall(turn.id, "d", "deny", "eve"),
            DecideCall(other.id, "c", "deny", "eve"),
            again,
        ):
            assert await store.signal(S1, decision) is True
        assert await store.signal(S1, again) is False
        assert len(await _letters(store, lease)) == 3


async def test_a_turn_may_be_cancelled_again(opening: Opening) -> None:
    """Who asks again is answered the same, also when the first letter was read already."""
    async with opening() as (store, _):
        turn = make_turn()
        _, lease = await accept(store, turn, "a")
        for _ in range(2):
            assert await store.signal(S1, CancelTurn(turn.id)) is True
        letters = (await store.inbox(lease, "")).letters
        assert {letter.content for letter in letters} == {CancelTurn(turn.id)}
        assert await store.signal(S1, CancelTurn(turn.id)) is True
        assert await _letters(store, lease, letters[-1].place) == [CancelTurn(turn.id)]


async def test_a_signal_for_nothing_is_not_kept(opening: Opening) -> None:
    """For a turn that has ended, is of another session or was never accepted: False."""
    async with opening() as (store, _):
        turn, elsewhere = make_turn(), make_turn(key=S2)
        ended = await answer(store)
        _, lease = await accept(store, turn, "a")
        await accept(store, elsewhere, "a")
        for key, turn_id in (
            (S1, ended.id),
            (S1, elsewhere.id),
            (S1, make_turn().id),
            (S2, turn.id),
            (OTHER, turn.id),
        ):
            assert await store.signal(key, CancelTurn(turn_id)) is False
            assert await store.signal(key, DecideCall(turn_id, "c", "deny", "eve")) is False
        assert await _letters(store, lease) == []
        assert await store.session(OTHER) is None


async def test_signals_survive_a_change_of_holder(opening: Opening) -> None:
    """Those the last holder has not forgotten, and those that came while nobody held it."""
    async with opening() as (store, pass_time):
        turn = make_turn()
        _, old = await accept(store, turn, "a")
        before = DecideCall(turn.id, "c", "approve", "eve")
        await store.signal(S1, before)
        await pass_time(store.lease_s * 1.1)
        await store.signal(S1, CancelTurn(turn.id))
        claim = await store.claim(S1, "b")
        assert claim is not None
        with pytest.raises(LeaseLost):
            await store.inbox(old, "")
        assert await _letters(store, claim.lease) == [before, CancelTurn(turn.id)]
        assert await store.signal(S1, DecideCall(turn.id, "c", "deny", "eve")) is False


async def test_a_late_holder_forgets_nothing(opening: Opening) -> None:
    """Reading on under a lease that is lost leaves the letters to who has the session now."""
    async with opening() as (store, _):
        turn = make_turn()
        _, old = await accept(store, turn, "a")
        await store.signal(S1, CancelTurn(turn.id))
        [letter] = (await store.inbox(old, "")).letters
        claim = await store.claim(S1, "a")
        assert claim is not None
        with pytest.raises(LeaseLost):
            await store.inbox(old, letter.place)
        assert await _letters(store, claim.lease) == [CancelTurn(turn.id)]
