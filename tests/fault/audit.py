"""What must be true of a store when all is over, whatever broke before.

It is read through the contract of stores, and held against what clients were told, what agents
noted, and what readers saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from pool import Event, TextDelta, Turn
from pool.errors import StoreUnavailable
from pool.events import START, TurnCancelled, TurnQueued, TurnStarted
from pool.store.base import SessionKey, Store
from pool.store.limits import Retention
from pool.store.urls import store_of
from pool.turn import ANYONE, State, messages
from tests.fault.clients import eventually
from tests.fault.runs import Runs
from tests.fault.seen import Seen

_ALL = 100_000
# What is wrong is told up to so many times.
_TOLD = 20


class Account(NamedTuple):
    """What was found: turns by their state, the runs that it took beyond one each, events."""

    states: Counter[State]
    again: int
    events: int


@asynccontextmanager
async def opened(url: str, *, lease_s: float = 1.0) -> AsyncIterator[Store]:
    """The store itself, as a further process that only reads; as soon as it is there."""
    store = store_of(url, retention=Retention(), lease_s=lease_s, exclusive=False)

    async def opens() -> bool:
        try:
            await store.open()
        except StoreUnavailable:
            # not all sentinels agree yet on who is the master, say
            return False
        return True

    await eventually(opens, "the store can be opened")
    try:
        yield store
    finally:
        await store.close()


async def settled(url: str) -> None:
    """Once every turn that is in the store has ended, whoever knows of it."""
    async with opened(url) as store:
        auditor = Auditor(store, None)
        await eventually(auditor.settled, "every turn in the store ends")


async def audit(
    url: str,
    runs: Runs,
    *,
    accepted: Collection[str],
    seen: Iterable[Seen] = (),
    lossy: bool = False,
) -> Account:
    """Read everything. `AssertionError` with all that is wrong.

    `accepted`: the turns that clients were told of. `lossy`: the store was made to lose writes, so
    some of these may be gone.
    """
    async with opened(url) as store:
        return await Auditor(store, runs).audit(accepted, list(seen), lossy=lossy)


class Auditor:
    """Goes through a store, session by session, and collects what is wrong."""

    def __init__(self, store: Store, runs: Runs | None) -> None:
        self.wrongs: list[str] = []
        self._store = store
        self._runs = [] if runs is None else runs.all()
        self._effects = {} if runs is None else runs.effects()
        self._turns: dict[str, Turn] = {}
        self._events: dict[str, list[Event]] = {}
        self._count = 0

    async def audit(
        self, accepted: Collection[str], seen: Sequence[Seen], *, lossy: bool
    ) -> Account:
        """All checks; `AssertionError` if one finds something."""
        for key in await self._sessions():
            await self._session(key)
        if not lossy:
            self.wrongs += [
                f"{one} was accepted and is gone" for one in {*accepted} - {*self._turns}
            ]
        for turn in self._turns.values():
            self._turn(turn, self._events.get(turn.id, []), told=turn.id in accepted)
        self._noted(lossy=lossy)
        for reader in seen:
            self._read(reader)
        if self.wrongs:
            more = f"\nand {len(self.wrongs) - _TOLD} more" if len(self.wrongs) > _TOLD else ""
            raise AssertionError("\n".join(self.wrongs[:_TOLD]) + more)
        states = Counter(turn.state for turn in self._turns.values())
        again = sum(max(0, turn.attempt - 1) for turn in self._turns.values())
        return Account(states, again, self._count)

    async def settled(self) -> bool:
        """Whether no turn is left that has not ended."""
        for key in await self._sessions():
            turns = (await self._store.turns(key, None, _ALL)).items
            if not all(turn.ended for turn in turns):
                return False
        return True

    async def _sessions(self) -> Sequence[SessionKey]:
        found: list[SessionKey] = []
        after: str | None = None
        while True:
            page = await self._store.sessions(ANYONE.tenant, after, 1_000)
            found += [SessionKey(ANYONE.tenant, info.id) for info in page.items]
            after = page.next
            if after is None:
                return found

    async def _session(self, key: SessionKey) -> None:
        """One session: its log is dense, its turns began in order, its transcript is theirs."""
        turns = list((await self._store.turns(key, None, _ALL)).items)
        events = list((await self._store.events(key, START, _ALL)).events)
        self._count += len(events)
        self._turns |= {turn.id: turn for turn in turns}
        for event in events:
            self._events.setdefault(event.turn_id, []).append(event)
        places = [event.seq for event in events]
        if places != list(range(1, len(events) + 1)):
            self.wrongs.append(f"{key.id}: the log is not dense: {places}")
        epochs = [event.epoch for event in events]
        if epochs != sorted(epochs):
            self.wrongs.append(f"{key.id}: epochs fall: {epochs}")
        self._order(key, turns, events)
        self._states(key, turns, events)
        said = (await self._store.messages(key, None, _ALL)).items
        due = [message for turn in _by_end(turns, events) for message in messages(turn)]
        if list(said) != due:
            self.wrongs.append(f"{key.id}: the transcript is {said}, due was {due}")

    def _order(self, key: SessionKey, turns: Sequence[Turn], events: Sequence[Event]) -> None:
        patient = [turn.id for turn in turns if turn.request.if_busy in ("queue", "reject")]
        started = dict.fromkeys(e.turn_id for e in events if isinstance(e, TurnStarted))
        ran = [turn_id for turn_id in started if turn_id in patient]
        if ran != [turn_id for turn_id in patient if turn_id in started]:
            self.wrongs.append(f"{key.id}: accepted as {patient}, ran as {ran}")

    def _states(self, key: SessionKey, turns: Sequence[Turn], events: Sequence[Event]) -> None:
        """Each turn found the state that those completed before had left: none twice, none lost."""
        left = ""
        for turn in _by_end(turns, events):
            run = next((run for run in reversed(self._runs) if run.turn_id == turn.id), None)
            if turn.state != "completed":
                continue
            if run is None:
                self.wrongs.append(f"{turn.id} of {key.id} was completed and never ran")
            elif run.found != left:
                self.wrongs.append(f"{turn.id} of {key.id} found {run.found!r}, left was {left!r}")
            left += f"{turn.id},"

    def _turn(self, turn: Turn, events: Sequence[Event], *, told: bool) -> None:
        kinds = [event.type for event in events]
        if kinds == [TurnCancelled.type] and turn.state == "cancelled" and not told:
            # the store had it although it did not say so: refused, and taken back later
            return
        if not turn.ended:
            self.wrongs.append(f"{turn.id} has not ended: {turn.state}, {kinds}")
            return
        ends = [event for event in events if event.terminal]
        if len(ends) != 1 or events[-1] is not ends[0] or ends[0].type != f"turn.{turn.state}":
            self.wrongs.append(f"{turn.id} is {turn.state} and has the events {kinds}")
        # told again by whoever takes it over; who accepted it may have died before it told anybody
        queued = [event.epoch for event in events if isinstance(event, TurnQueued)]
        first = kinds[: len(queued)] == [TurnQueued.type] * len(queued)
        if not first or len(queued) != len(set(queued)) or not (queued or turn.attempt > 1):
            self.wrongs.append(f"{turn.id} does not begin with turn.queued: {kinds}")
        said = "".join(e.text for e in _since_start(events) if isinstance(e, TextDelta))
        if said != turn.output:
            self.wrongs.append(f"{turn.id}: its output is {turn.output!r}, its events say {said!r}")
        attempts = [event.attempt for event in events if isinstance(event, TurnStarted)]
        if attempts != sorted(set(attempts)) or max(attempts, default=0) != turn.attempt:
            self.wrongs.append(f"{turn.id} started as {attempts}, its attempt is {turn.attempt}")

    def _noted(self, *, lossy: bool) -> None:
        """What agents noted: each run is of another attempt, each effect has its turn's one key.

        The first start of a turn is stored with its first events: if its process dies before that,
        the next one is the first again.
        """
        runs = Counter(
            (run.turn_id, run.attempt, run.resumed) for run in self._runs if run.attempt > 1
        )
        self.wrongs += [f"{each} ran {times} times" for each, times in runs.items() if times > 1]
        for turn_id, keys in self._effects.items():
            if len(keys) != 1:
                self.wrongs.append(f"{turn_id}: its one tool call had the keys {keys}")
        if not lossy:
            unknown = {run.turn_id for run in self._runs} - {*self._turns}
            self.wrongs += [f"{turn_id} ran and is not in the store" for turn_id in unknown]

    def _read(self, seen: Seen) -> None:
        """A reader that saw a turn's end saw all of its last attempt, and nothing else."""
        self.wrongs += seen.wrongs
        for turn_id in dict.fromkeys(event["turn_id"] for event in seen.events):
            ends = [e for e in seen.events if e["turn_id"] == turn_id and "turn" in e]
            if not ends:
                continue
            if len(ends) > 1:
                self.wrongs.append(f"{turn_id} was seen to end {len(ends)} times")
            had = _essence([(e["type"], e["id"], e.get("text", "")) for e in seen.of(turn_id)])
            stored = _since_start(self._events.get(turn_id, []))
            due = _essence([(e.type, e.id, getattr(e, "text", "")) for e in stored])
            if had != due:
                self.wrongs.append(f"{turn_id}: seen {had}, stored {due}")


def _essence(events: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The events with deltas joined: a joined one has the id of its last part."""
    joined: list[tuple[str, str, str]] = []
    for kind, place, text in events:
        if kind == "text.delta" and joined and joined[-1][0] == kind:
            text = joined.pop()[2] + text
        joined.append((kind, place, text))
    return joined


def _since_start(events: Sequence[Event]) -> Sequence[Event]:
    starts = [n for n, event in enumerate(events) if isinstance(event, TurnStarted)]
    return events[starts[-1] :] if starts else events


def _by_end(turns: Sequence[Turn], events: Sequence[Event]) -> Sequence[Turn]:
    """The ended turns in the order of their ends."""
    ends = {event.turn_id: n for n, event in enumerate(events) if event.terminal}
    return sorted((turn for turn in turns if turn.id in ends), key=lambda turn: ends[turn.id])
