from __future__ import annotations

import pytest
from msgspec.structs import replace

from pool.errors import StoreUnavailable
from pool.store.base import SessionKey, StateChange, Store
from pool.store.memory import MemoryStore
from pool.turn import SessionInfo, TurnError
from protocol.command.migrate import Tally, carry, compare, report
from tests.contract.steps import OTHER, S1, S2, accept, answer, log_of, make_turn, transcript_of
from tests.support.stores import FailingStore

Captured = pytest.CaptureFixture[str]


async def filled() -> MemoryStore:
    """A store with sessions of two tenants: one with a state, one with a turn that has yet to
    end, one that is empty.
    """
    store = MemoryStore()
    await answer(store, "one", change=StateChange("f", b"state"))
    await answer(store, "two", state="failed", output="")
    await accept(store, make_turn("waits", key=S2))
    await store.create_session(OTHER, SessionInfo(id="s1", metadata={"n": 1}, ttl_s=60.0))
    return store


async def moved(old: Store, new: Store) -> Tally:
    """What came of copying one into the other."""
    tally = Tally()
    await carry(old, new, tally)
    await compare(old, new, tally)
    return tally


async def test_everything_is_there_afterwards() -> None:
    """Sessions, turns, transcript, events and state are as they were; what waited, waits."""
    old, new = await filled(), MemoryStore()
    tally = await moved(old, new)
    assert tally.whole
    assert (tally.carried, tally.turns, tally.there_before) == (3, 3, 0)
    for key in (S1, S2, OTHER):
        assert await new.session(key) == await old.session(key)
    assert await transcript_of(new, S1) == await transcript_of(old, S1)
    assert await log_of(new, S1) == await log_of(old, S1)
    assert await new.orphans(10) == [S2]
    claim = await new.claim(S2, "server")
    assert claim is not None
    assert [turn.input for _, turn in claim.turns] == ["waits"]


async def test_it_can_be_repeated() -> None:
    """What is there already is left as it is; what is new is carried."""
    old, new = await filled(), MemoryStore()
    await moved(old, new)
    assert (await moved(old, new)).there_before == 3
    await answer(old, key=SessionKey("acme", "s3"))
    tally = await moved(old, new)
    assert tally.whole
    assert (tally.carried, tally.there_before) == (1, 3)


async def test_what_differs_is_told() -> None:
    """A session that went on in one of them after it was carried is named."""
    old, new = await filled(), MemoryStore()
    await moved(old, new)
    await answer(old, "more")
    tally = await moved(old, new)
    assert not tally.whole
    assert tally.different == [S1]
    assert report(tally) == [
        "carried 0 sessions with 0 turns, left 3 that were there before",
        "1 sessions are not the same in both: delete them in one:",
        "  acme s1",
        "not all sessions are there",
    ]


async def test_what_is_missing_is_told() -> None:
    """Sessions that the target has lost again are named, some of them."""
    old, new = MemoryStore(), MemoryStore()
    tally = Tally()
    for number in range(25):
        await answer(old, key=SessionKey("acme", f"s{number}"))
    await compare(old, new, tally)
    lines = report(tally)
    assert lines[1] == "25 sessions are missing in the target:"
    assert lines[2:4] == ["  acme s0", "  acme s1"]
    assert lines[-2:] == ["  and 5 more", "not all sessions are there"]


async def test_a_session_that_is_gone_is_not_missed() -> None:
    """What came to the end of its time between listing and carrying is counted, and no loss."""
    old, new = await filled(), MemoryStore()

    class Passing(FailingStore):
        async def all_sessions(
            self, after: str | None, limit: int
        ) -> tuple[list[SessionKey], str | None]:
            keys, end = await super().all_sessions(after, limit)
            await old.delete_session(OTHER)
            return keys, end

    tally = await moved(Passing(old), new)
    assert tally.whole
    assert (tally.carried, tally.gone) == (2, 1)
    assert "1 sessions came to the end of their time meanwhile" in report(tally)


async def test_an_error_ends_it_and_the_next_time_goes_on() -> None:
    """A store that fails in between leaves whole sessions behind, never a part of one."""
    old, new = MemoryStore(), MemoryStore()
    for number in range(40):
        await answer(old, key=SessionKey("acme", f"s{number}"))
    failing = FailingStore(new)
    failing.fail("carry_in", times=1)
    with pytest.raises(StoreUnavailable):
        await moved(old, failing)
    before = len((await new.all_sessions(None, 100))[0])
    assert 0 < before < 40
    tally = await moved(old, failing)
    assert tally.whole
    assert (tally.carried, tally.there_before) == (40 - before, before)


async def test_dead_letters_that_were_put_aside_stay_so() -> None:
    """Only those that are listed in the source are listed in the target."""
    old, new = MemoryStore(), MemoryStore()
    ids = []
    for key in (S1, S2):
        turn = make_turn(key=key)
        _, lease = await accept(old, turn)
        end = replace(turn, state="failed", error=TurnError("dead_letter", "it crashed"))
        await old.commit(lease, end, [])
        ids.append(turn.id)
    await old.forget_dead_letter(ids[0])
    await moved(old, new)
    assert [turn.id for turn in await new.dead_letters(None, 10)] == ids[1:]


async def test_progress_is_counted(capsys: Captured) -> None:
    """Where nobody watches there is a line for each part, on standard error."""
    await moved(await filled(), MemoryStore())
    out, error = capsys.readouterr()
    assert out == ""
    assert error == "carrying: 3 sessions\ncomparing: 3 sessions\n"


async def test_progress_is_rewritten_on_a_terminal(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who watches sees one line that grows."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    await carry(await filled(), MemoryStore(), Tally())
    assert capsys.readouterr().err == "\rcarrying: 3 sessions\rcarrying: 3 sessions\n"
