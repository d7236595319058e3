from __future__ import annotations

import json
import os
from typing import Any

import pytest

from pool.errors import InvalidRequest, NotFound, SessionBusy
from pool.guard.audit import Audit
from pool.guard.audit_records import read_line
from pool.guard.audit_store import StoreSink, lines_of
from pool.store.base import SessionKey, StateChange, Store
from pool.store.memory import MemoryStore
from pool.turn import Turn, TurnError, TurnRequest
from protocol.command import operate, records
from protocol.command.audited import Notes
from tests.contract.steps import OTHER, S1, S2, accept, answer, commit, make_turn, transcript_of

Captured = pytest.CaptureFixture[str]


async def failed(store: Store) -> Turn:
    """A turn that ended with an error."""
    turn = make_turn()
    turn.request = TurnRequest(input="hello", metadata={"n": 1})
    _, lease = await accept(store, turn)
    await commit(store, lease, turn, state="failed", output="")
    return turn


async def dead(store: Store, *, key: SessionKey = S1) -> Turn:
    """A dead letter."""
    turn = make_turn(key=key)
    _, lease = await accept(store, turn)
    turn.state, turn.attempt, turn.finished_at = "failed", 3, 60.0
    turn.error = TurnError("dead_letter", "the turn crashed its actor 3 times")
    await store.commit(lease, turn, [])
    return turn


def lines(capsys: Captured) -> list[str]:
    """What was printed, and nothing on standard error."""
    out, error = capsys.readouterr()
    assert error == ""
    return out.splitlines()


def objects(capsys: Captured) -> list[Any]:
    """What was printed, as JSON."""
    return [json.loads(line) for line in lines(capsys)]


async def test_sessions_of_all_tenants_are_listed(capsys: Captured) -> None:
    """One line a session, with its tenant; or only those of one."""
    store = MemoryStore(clock=lambda: 1_700_000_000.0)
    for key in (S1, S2, OTHER):
        await answer(store, key=key)
    assert await operate.list_sessions(store, None, 10, as_json=False) == 0
    assert lines(capsys) == [
        "TENANT  SESSION  AGENT  TURNS  UPDATED",
        "acme    s1       -      1      2023-11-14 22:13:20Z",
        "acme    s2       -      1      2023-11-14 22:13:20Z",
        "other   s1       -      1      2023-11-14 22:13:20Z",
    ]
    await operate.list_sessions(store, "other", 10, as_json=True)
    (session,) = objects(capsys)
    assert (session["tenant"], session["id"], session["turns"]) == ("other", "s1", 1)


async def test_a_listing_has_a_limit_and_says_so(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left out is not left out silently; listings are read page by page."""
    monkeypatch.setattr(records, "PAGE", 2)
    store = MemoryStore()
    for number in range(7):
        await answer(store, key=SessionKey("acme", f"s{number}"))
    for tenant in (None, "acme"):
        await operate.list_sessions(store, tenant, 5, as_json=True)
        out, error = capsys.readouterr()
        assert [json.loads(line)["id"] for line in out.splitlines()] == [
            "s0", "s1", "s2", "s3", "s4",
        ]  # fmt: skip
        assert error == "[only 5 are shown; --limit shows more]\n"
        await operate.list_sessions(store, tenant, 7, as_json=True)
        assert len(lines(capsys)) == 7


async def test_nothing_is_listed_where_nothing_is(capsys: Captured) -> None:
    """An empty store prints no line."""
    store = MemoryStore()
    await operate.list_sessions(store, None, 10, as_json=False)
    await operate.list_dead_letters(store, None, 10, as_json=True)
    assert lines(capsys) == []


async def test_turns_of_a_session_are_listed(capsys: Captured) -> None:
    """One line a turn, in the order of acceptance, with what became of it."""
    store = MemoryStore()
    first = await answer(store)
    second = await answer(store, state="failed", output="")
    await operate.list_turns(store, "acme", "s1", 10, as_json=False)
    head, one, two = lines(capsys)
    assert head.split() == ["TURN", "STATE", "AGENT", "ATTEMPT", "CREATED", "RAN", "ERROR"]
    assert one.split()[:3] == [first.id, "completed", "helper"]
    assert two.split()[-1] == "agent_failed"
    await operate.list_turns(store, "acme", "s1", 1, as_json=True)
    out, error = capsys.readouterr()
    assert json.loads(out)["id"] == first.id
    assert "only 1 are shown" in error
    assert second.id not in out


async def test_a_session_is_shown_with_its_transcript(capsys: Captured) -> None:
    """Its fields, one a line, and what was said, as a terminal may show it."""
    store = MemoryStore(clock=lambda: 1_700_000_000.0)
    turn = await answer(store, "why\x1b[2J?", output="because\nof this")
    await operate.show_session(store, "acme", "s1", with_messages=True, as_json=False)
    shown = lines(capsys)
    assert "tenant      acme" in shown
    assert "turns       1" in shown
    assert shown[-5:] == [
        f"1970-01-01 00:00:01Z user ({turn.id}):",
        "  why[2J?",
        f"1970-01-01 00:00:02Z assistant ({turn.id}):",
        "  because",
        "  of this",
    ]
    await operate.show_session(store, "acme", "s1", with_messages=True, as_json=True)
    (plain,) = objects(capsys)
    assert [message["content"] for message in plain["messages"]] == [
        "why\x1b[2J?",
        "because\nof this",
    ]
    await operate.show_session(store, "acme", "s1", with_messages=False, as_json=True)
    assert "messages" not in objects(capsys)[0]


async def test_a_turn_is_shown_with_its_events(capsys: Captured) -> None:
    """Its fields, what was asked and answered, and each event with its cursor."""
    store = MemoryStore()
    turn = await answer(store, "one\ntwo", output="three")
    await operate.show_turn(store, turn.id, with_events=True, as_json=False)
    shown = lines(capsys)
    assert f"id           {turn.id}" in shown
    assert "user         ann" in shown
    place = shown.index("input:")
    assert shown[place : place + 5] == ["input:", "  one", "  two", "output:", "  three"]
    types = [line.split()[1] for line in shown[place + 5 :]]
    assert types == ["turn.queued", "turn.started", "text.delta", "turn.completed"]
    await operate.show_turn(store, turn.id, with_events=True, as_json=True)
    (plain,) = objects(capsys)
    assert plain["state"] == "completed"
    assert [event["type"] for event in plain["events"]] == types


async def test_events_of_one_turn_are_its_own(capsys: Captured) -> None:
    """Those before and after it in the session's log are left out, however many there are."""
    store = MemoryStore()
    await answer(store, output="before")
    turn = await answer(store, output="this")
    await answer(store, output="after")
    await operate.show_turn(store, turn.id, with_events=True, as_json=True)
    (plain,) = objects(capsys)
    assert {event["turn_id"] for event in plain["events"]} == {turn.id}
    assert len(plain["events"]) == 4


async def test_json_is_plain_letters(capsys: Captured) -> None:
    """What would steer a terminal is escaped, whatever alphabet it is from."""
    store = MemoryStore()
    turn = await answer(store, "\x9b\u202e\U000e0001", output="")
    await operate.show_turn(store, turn.id, with_events=False, as_json=True)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out)["input"] == "\x9b\u202e\U000e0001"


@pytest.mark.parametrize("session", ["none", "s1"])
async def test_what_is_not_there_is_said(session: str) -> None:
    """An unknown session or turn, or another tenant's, is not found."""
    store = MemoryStore()
    await answer(store, key=S1)
    with pytest.raises(NotFound, match="there is no session"):
        await operate.show_session(store, "other", session, with_messages=False, as_json=False)
    with pytest.raises(NotFound, match="there is no session"):
        await operate.list_turns(store, "other", session, 10, as_json=False)
    with pytest.raises(NotFound, match="there is no session"):
        await operate.delete_session(store, Notes(None), "other", session)
    with pytest.raises(NotFound, match="there is no turn"):
        await operate.show_turn(store, "Anone", with_events=False, as_json=False)


async def test_ids_are_checked() -> None:
    """What cannot be an id never becomes a key."""
    store = MemoryStore()
    with pytest.raises(InvalidRequest, match="session must be"):
        await operate.delete_session(store, Notes(None), "acme", "../s1")
    with pytest.raises(InvalidRequest, match="tenant must be"):
        await operate.list_sessions(store, "a*", 10, as_json=False)
    with pytest.raises(InvalidRequest, match="tenant must be"):
        await operate.list_dead_letters(store, "{a}", 10, as_json=False)
    with pytest.raises(InvalidRequest, match="turn must be"):
        await operate.show_turn(store, "a:b", with_events=False, as_json=False)
    with pytest.raises(InvalidRequest, match="turn must be"):
        await operate.show_dead_letter(store, "", with_events=False, as_json=False)


async def test_a_session_is_deleted_when_nothing_runs_in_it(capsys: Captured) -> None:
    """With all its turns; one that has a turn that has yet to end is left alone."""
    store = MemoryStore()
    turn = make_turn()
    _, lease = await accept(store, turn)
    with pytest.raises(SessionBusy):
        await operate.delete_session(store, Notes(None), "acme", "s1")
    await commit(store, lease, turn)
    assert await operate.delete_session(store, Notes(None), "acme", "s1") == 0
    assert lines(capsys) == ["session s1 of tenant acme is forgotten"]
    assert await store.turn(turn.id) is None


async def test_dead_letters_are_listed_and_shown(capsys: Captured) -> None:
    """The list has no word of what was asked; the one that is shown has."""
    store = MemoryStore()
    turn = await dead(store)
    await dead(store, key=OTHER)
    await operate.list_dead_letters(store, "acme", 10, as_json=False)
    head, line = lines(capsys)
    assert head.split() == ["TURN", "TENANT", "SESSION", "AGENT", "ATTEMPT", "ENDED"]
    assert line.split()[:5] == [turn.id, "acme", "s1", "helper", "3"]
    assert line.endswith("1970-01-01 00:01:00Z")
    await operate.list_dead_letters(store, None, 1, as_json=False)
    assert "only 1 are shown" in capsys.readouterr().err
    await operate.show_dead_letter(store, turn.id, with_events=False, as_json=False)
    assert "  hello" in lines(capsys)
    other = await answer(store, key=S2)
    with pytest.raises(NotFound, match="there is no dead letter"):
        await operate.show_dead_letter(store, other.id, with_events=False, as_json=False)


async def test_a_dead_letter_goes_again_as_a_new_turn(capsys: Captured) -> None:
    """The new turn waits for whoever serves the session, says where it is from, and the old one is
    no longer listed; its record stays.
    """
    store = MemoryStore()
    old = await dead(store)
    assert await operate.requeue_dead_letters(store, Notes(None), [old.id]) == 0
    (line,) = lines(capsys)
    new_id = line.split()[4].rstrip(",")
    assert line == f"{old.id} goes again as {new_id}, session s1"
    assert await store.dead_letters(None, 10) == []
    assert await store.turn(old.id) is not None
    assert await store.orphans(10) == [S1]
    claim = await store.claim(S1, "server")
    assert claim is not None
    ((_, new),) = claim.turns
    assert (new.id, new.state, new.attempt) == (new_id, "queued", 0)
    assert (new.input, new.user, new.agent) == (old.input, old.user, old.agent)
    assert new.metadata == {"requeued_from": old.id}


async def test_a_turn_goes_again_once(capsys: Captured) -> None:
    """Whoever repeats the command gets the same new turn."""
    store = MemoryStore()
    old = await failed(store)
    for word in ("goes", "went"):
        assert await operate.requeue_turns(store, Notes(None), [old.id]) == 0
        assert f" {word} again as " in lines(capsys)[0]
    claim = await store.claim(S1, "server")
    assert claim is not None
    assert [turn.metadata for _, turn in claim.turns] == [{"n": 1, "requeued_from": old.id}]


async def test_a_turn_goes_again_behind_the_one_that_runs(capsys: Captured) -> None:
    """A session that somebody holds is served by that one: the new turn is a letter to it."""
    store = MemoryStore()
    old = await failed(store)
    running = make_turn()
    _, lease = await accept(store, running)
    assert await operate.requeue_turns(store, Notes(None), [old.id]) == 0
    new_id = lines(capsys)[0].split()[4].rstrip(",")
    inbox = await store.inbox(lease, "")
    assert list(inbox.turns) == [new_id]


async def test_only_what_did_not_end_well_goes_again(capsys: Captured) -> None:
    """A refusal of one is said, and does not keep the others from going."""
    store = MemoryStore()
    good = await answer(store)
    bad = await failed(store)
    assert await operate.requeue_turns(store, Notes(None), [good.id, "a b", "Anone", bad.id]) == 1
    out, error = capsys.readouterr()
    assert out.startswith(f"{bad.id} goes again")
    assert error.splitlines() == [
        f"actorpool: turn {good.id} is completed: only failed, expired, interrupted ones go again",
        "actorpool: turn must be 1 to 64 of A-Z a-z 0-9 _ -",
        "actorpool: there is no turn Anone",
    ]
    assert await operate.requeue_dead_letters(store, Notes(None), [bad.id]) == 1
    assert f"there is no dead letter {bad.id}" in capsys.readouterr().err


async def test_dead_letters_can_be_put_aside(capsys: Captured) -> None:
    """They are listed no more, and stay turns of their sessions."""
    store = MemoryStore()
    turn = await dead(store)
    assert await operate.delete_dead_letters(store, Notes(None), [turn.id]) == 0
    assert lines(capsys) == [f"{turn.id} is no longer listed"]
    assert await store.dead_letters(None, 10) == []
    assert await store.turn(turn.id) is not None
    assert await operate.delete_dead_letters(store, Notes(None), [turn.id]) == 1
    assert "there is no dead letter" in capsys.readouterr().err


async def test_what_the_agent_keeps_is_not_touched() -> None:
    """A requeued turn goes on from the session as it is."""
    store = MemoryStore()
    await answer(store, "one", change=StateChange("f", b"state"))
    old = await failed(store)
    await operate.requeue_turns(store, Notes(None), [old.id])
    claim = await store.claim(S1, "server")
    assert claim is not None
    state = await store.load(claim.lease, "helper", claim.turns[0][1].id)
    assert state.data == b"state"
    assert [message.content for message in await transcript_of(store, S1)] == ["one", "hi"]


async def test_what_was_changed_is_noted() -> None:
    """Each session, turn and dead letter by itself, by whom; what was refused was not done."""
    store, log = MemoryStore(), MemoryStore()
    audit = Audit(StoreSink(log), chain="c1")
    await audit.open()
    notes = Notes(audit)
    bad, letter, again = await failed(store), await dead(store), await dead(store)
    await answer(store, key=S2)
    await operate.requeue_turns(store, notes, [bad.id, "none"])
    await operate.requeue_dead_letters(store, notes, [again.id, "none"])
    await operate.delete_dead_letters(store, notes, [letter.id, "none"])
    await operate.delete_session(store, notes, S2.tenant, S2.id)
    with pytest.raises(SessionBusy):
        await operate.delete_session(store, notes, S1.tenant, S1.id)
    await audit.close()
    read = [read_line(line) async for _, line in lines_of(log, "c1")]
    done = [each[1] for each in read if each is not None and each[1].action[:6] == "admin."]
    assert [(each.action, each.outcome, each.subject) for each in done] == [
        ("admin.requeue_turn", "done", f"turn:{bad.id} tenant:acme"),
        ("admin.requeue_turn", "done", f"turn:{again.id} tenant:acme"),
        ("admin.delete_dead_letter", "done", f"turn:{letter.id}"),
        ("admin.delete_session", "done", f"session:{S2.id} tenant:{S2.tenant}"),
    ]
    assert {each.user for each in done} == {f"uid:{os.getuid()}"}
