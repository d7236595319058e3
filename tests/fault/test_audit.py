"""The audit finds what it is there to find."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from pool import AgentPool, Cursor, Event, Turn
from pool.store.base import EventPage, Page, SessionKey, Store
from pool.store.memory import MemoryStore
from pool.turn import Message
from protocol import encode
from tests.fault.agents import agent
from tests.fault.audit import Auditor
from tests.fault.runs import Runs
from tests.fault.seen import Seen
from tests.support.stores import WrappedStore

TEXT = "say=3 tool say=2"


class Quiet:
    """A pool that had two turns in a session, and is over."""

    def __init__(self, store: Store, runs: Runs, turns: list[str], events: list[Event]) -> None:
        self.store = store
        self.runs = runs
        self.turns = turns
        self.events = events

    async def audit(
        self, *, store: Store | None = None, accepted: Sequence[str] = (), seen: Sequence[Seen] = ()
    ) -> None:
        """Audit it, or another store in its place."""
        auditor = Auditor(store or self.store, self.runs)
        await auditor.audit([*self.turns, *accepted], seen, lossy=False)


@asynccontextmanager
async def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Quiet]:
    """Two turns, asked and answered."""
    runs = Runs(tmp_path)
    for name, value in runs.environ.items():
        monkeypatch.setenv(name, value)
    store = MemoryStore()
    async with AgentPool({"agent": agent}, store=store) as pool:
        turns = [(await pool.ask(TEXT, session="s")).id for _ in range(2)]
        events = [event async for event in pool.events(turns[0])]
        yield Quiet(store, runs, turns, events)


def seen_of(events: Sequence[Event]) -> Seen:
    """A reader that saw these events, as they go over the wire."""
    seen = Seen()
    for event in events:
        seen.take(msgspec.json.decode(encode.event(event)))
    return seen


class Tampered(WrappedStore):
    """A store that tells something else than it has."""

    def __init__(
        self,
        store: Store,
        *,
        drop: str = "",
        turn: Turn | None = None,
        messages: Sequence[Message] | None = None,
    ) -> None:
        super().__init__(store)
        self._drop = drop
        self._turn = turn
        self._messages = messages

    async def events(self, key: SessionKey, after: Cursor, limit: int) -> EventPage:
        """All events but the first of a type."""
        page = await super().events(key, after, limit)
        gone = next((event for event in page.events if event.type == self._drop), None)
        return EventPage([event for event in page.events if event is not gone])

    async def turns(self, key: SessionKey, after: str | None, limit: int) -> Page[Turn]:
        """The turns, one of them changed."""
        page = await super().turns(key, after, limit)
        changed = self._turn
        return Page([changed if changed and t.id == changed.id else t for t in page.items], None)

    async def messages(self, key: SessionKey, after: str | None, limit: int) -> Page[Message]:
        """Another transcript."""
        page = await super().messages(key, after, limit)
        return page if self._messages is None else Page(self._messages, None)


async def test_a_sound_store_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with two turns that were answered and a reader that saw one of them."""
    async with quiet(tmp_path, monkeypatch) as over:
        await over.audit(seen=[seen_of(over.events)])


async def test_a_lost_turn_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client was told of must be there."""
    async with quiet(tmp_path, monkeypatch) as over:
        with pytest.raises(AssertionError, match="nowhere was accepted and is gone"):
            await over.audit(accepted=["nowhere"])


@pytest.mark.parametrize(
    ("drop", "wrong"),
    [
        ("text.delta", "the log is not dense"),
        ("turn.queued", "does not begin with turn.queued"),
        ("turn.completed", "is completed and has the events"),
        ("turn.started", "its attempt is 1"),
    ],
)
async def test_a_lost_event_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drop: str, wrong: str
) -> None:
    """A log that lacks an event of whatever type is not whole."""
    async with quiet(tmp_path, monkeypatch) as over:
        with pytest.raises(AssertionError, match=wrong):
            await over.audit(store=Tampered(over.store, drop=drop))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"state": "running"}, "has not ended"),
        ({"state": "failed"}, "is failed and has the events"),
        ({"output": "else"}, "its output is 'else'"),
        ({"attempt": 2}, "its attempt is 2"),
    ],
)
async def test_a_wrong_record_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], wrong: str
) -> None:
    """The record of a turn must be what its events say."""
    async with quiet(tmp_path, monkeypatch) as over:
        turn = await over.store.turn(over.turns[0])
        assert turn is not None
        tampered = Tampered(over.store, turn=replace(turn, **change))
        with pytest.raises(AssertionError, match=wrong):
            await over.audit(store=tampered)


async def test_a_wrong_transcript_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transcript must be what the turns said, no more and no less."""
    async with quiet(tmp_path, monkeypatch) as over:
        said = (await over.store.messages(SessionKey("default", "s"), None, 100)).items
        for wrong in (said[:-1], [*said, said[-1]]):
            with pytest.raises(AssertionError, match="the transcript is"):
                await over.audit(store=Tampered(over.store, messages=wrong))


async def test_a_second_run_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that ran twice, a run of no turn, an effect under another key are told."""
    async with quiet(tmp_path, monkeypatch) as over:
        run = over.runs.of(over.turns[0])[0]
        for _ in range(2):
            over.runs.note(replace(run, attempt=2))
        over.runs.note(replace(run, turn_id="nowhere"))
        over.runs.effect(run.turn_id, "another")
        with pytest.raises(AssertionError) as wrong:
            await over.audit()
        assert "ran 2 times" in str(wrong.value)
        assert "nowhere ran and is not in the store" in str(wrong.value)
        assert "its one tool call had the keys" in str(wrong.value)


async def test_a_lost_or_doubled_state_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn must find the state that those completed before it have left."""
    async with quiet(tmp_path, monkeypatch) as over:
        run = over.runs.of(over.turns[1])[0]
        for found in ("", run.found * 2):
            over.runs.note(replace(run, attempt=run.attempt + 1, found=found))
            with pytest.raises(AssertionError, match="left was"):
                await over.audit()


async def test_what_a_reader_missed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that lacks an event, or had one twice, is told of."""
    async with quiet(tmp_path, monkeypatch) as over:
        gap = seen_of([*over.events[:3], *over.events[4:]])
        with pytest.raises(AssertionError, match=r"seen .* stored"):
            await over.audit(seen=[gap])
        twice = seen_of([*over.events[:3], *over.events[2:]])
        with pytest.raises(AssertionError, match="came after"):
            await over.audit(seen=[twice])
