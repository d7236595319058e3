"""Drives a store and the model side by side: turns and sessions. See `sharing_machine`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pool.errors import Conflict, LeaseLost, NotFound, SessionBusy
from pool.events import START, Cursor
from pool.store.base import Lease, SessionKey, StateChange
from pool.store.outbox import Delivery
from pool.turn import SessionInfo, State, Turn, Webhook
from tests.contract.model import ModelSession
from tests.contract.opened import Opening
from tests.contract.steps import finish, log_of, make_turn, said, stamped, transcript_of

T = TypeVar("T")

keys = st.sampled_from([SessionKey("acme", "s1"), SessionKey("acme", "s2"), SessionKey("x", "s1")])
owners = st.sampled_from("abc")
agents = st.sampled_from(["helper", "other"])
ends = st.sampled_from(["completed", "failed", "cancelled", "interrupted", "expired"])
webhooks = st.sampled_from([None, Webhook("https://example.org")])
changes = st.none() | st.builds(
    StateChange, st.just("f/1"), st.binary(max_size=3), append=st.booleans()
)
texts = st.lists(st.text(max_size=3), max_size=4)


class StoreMachine(RuleBasedStateMachine):
    """Owners write with leases that may be lost. Time passes in steps that outlast any lease."""

    def __init__(self, opening: Opening, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.stack = AsyncExitStack()
        self.store, self.pass_time = self.run(self.stack.enter_async_context(opening()))
        self.model: dict[SessionKey, ModelSession] = {}
        # what each owner believes that it holds
        self.leases: dict[tuple[str, SessionKey], Lease] = {}
        # who has shown itself since time passed last, or has joined
        self.alive: set[str] = set()
        self.joined: set[str] = set()
        self.deliveries: dict[str, Delivery] = {}
        # those that are not due before this test is over
        self.held_back: set[str] = set()

    def run(self, call: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.ensure_future(call, loop=self.loop))

    def refused(self, owner: str, call: Awaitable[object], *errors: type[Exception]) -> None:
        with pytest.raises(errors):
            self.run(call)
        self.unsure(owner)

    def unsure(self, owner: str) -> None:
        """A call that wrote nothing may be a sign of life, or not: it shall not have been one."""
        if owner and owner not in self.alive:
            self.run(self.store.leave(owner))

    def teardown(self) -> None:
        for owner in self.joined:
            self.run(self.store.leave(owner))
        self.run(self.stack.aclose())
        self.loop.close()

    @rule(
        key=keys,
        owner=owners | st.just(""),
        agent=agents,
        webhook=webhooks,
        idempotency=st.sampled_from([None, "k1", "k2"]),
        reject_busy=st.booleans(),
    )
    def accept(
        self,
        key: SessionKey,
        owner: str,
        agent: str,
        webhook: Webhook | None,
        idempotency: str | None,
        reject_busy: bool,
    ) -> None:
        session = self.model.get(key, ModelSession())
        turn = make_turn(
            idempotency or "hello",
            key=key,
            agent="helper" if idempotency else agent,
            webhook=None if idempotency else webhook,
        )
        call = self.store.accept(
            turn, owner=owner, key=idempotency, reject_busy=reject_busy, with_state=True
        )
        if idempotency in session.keys:
            found = self.run(call)
            assert (found.new, found.turn.id) == (False, session.keys[idempotency])
            self.unsure(owner)
            return
        if reject_busy and session.unfinished:
            self.refused(owner, call, SessionBusy)
            return
        accepted = self.run(call)
        self.model[key] = session
        self.alive |= {owner} - {""}
        assert accepted.new
        assert accepted.end == (session.log[-1] if session.log else Cursor(accepted.end.epoch, 0))
        holder = session.holder(self.alive)
        session.turns.append(turn)
        session.unfinished.append(turn.id)
        assert accepted.number == len(session.turns)
        assert accepted.owner == (holder or owner)
        assert (accepted.lease is not None) == (not holder and owner != "")
        assert accepted.others == (accepted.lease is not None and len(session.unfinished) > 1)
        if accepted.lease is not None:
            session.claim(accepted.lease, anew=False)
            self.leases[owner, key] = accepted.lease
            assert accepted.state is not None
            unseen = [message.content for message in accepted.state.unseen]
            assert (accepted.state.data, unseen) == session.state(turn.agent, "")
        elif holder not in ("", owner):
            session.arrived.append(turn.id)
        if idempotency is not None:
            session.keys[idempotency] = turn.id

    @rule(key=keys, owner=owners, texts=texts, change=changes, pick=st.integers(0, 3))
    def append(
        self, key: SessionKey, owner: str, texts: list[str], change: StateChange | None, pick: int
    ) -> None:
        session, lease = self.model.get(key), self.leases.get((owner, key))
        if session is None or lease is None or not session.unfinished:
            return
        turn = self.turn(session, session.unfinished[pick % len(session.unfinished)])
        events = stamped(said(*texts), turn, lease.epoch, len(session.log))
        call = self.store.append(lease, events, turn, change)
        if lease != session.lease or not session.held:
            self.refused(owner, call, LeaseLost)
            return
        assert self.run(call) is False
        self.alive.add(owner)
        session.log += [event.cursor for event in events]
        if change is not None:
            session.checkpoint(turn, change)

    @rule(
        key=keys,
        owner=owners,
        end=ends,
        output=st.sampled_from(["", "hi"]),
        texts=texts,
        change=changes,
        pick=st.integers(0, 3),
    )
    def commit(
        self,
        key: SessionKey,
        owner: str,
        end: State,
        output: str,
        texts: list[str],
        change: StateChange | None,
        pick: int,
    ) -> None:
        session, lease = self.model.get(key), self.leases.get((owner, key))
        if session is None or lease is None or not session.turns:
            return
        turn = session.turns[-1 - pick % len(session.turns)]
        events = stamped(said(*texts), turn, lease.epoch, len(session.log))
        ended = turn.id not in session.unfinished
        if lease != session.lease or not (session.held or ended):
            self.refused(owner, self.store.commit(lease, turn, events, change), LeaseLost)
        elif ended:
            released = self.run(self.store.commit(lease, turn, events, change))
            assert released == (not session.unfinished)
            self.unsure(owner)
        else:
            finish(turn, end, output)
            released = self.run(self.store.commit(lease, turn, events, change))
            session.log += [event.cursor for event in events]
            assert released == session.end(turn, change)
            self.alive.add(owner)
            if turn.request.webhook is not None:
                self.deliveries[turn.id] = Delivery(turn.id, 0)

    @rule(key=keys, new=keys)
    def fork(self, key: SessionKey, new: SessionKey) -> None:
        call = self.store.fork_session(key, new, None)
        if key not in self.model or new in self.model:
            with pytest.raises((NotFound, Conflict)):
                self.run(call)
            return
        self.run(call)
        self.model[new] = ModelSession(said=list(self.model[key].said))

    @rule(key=keys)
    def create(self, key: SessionKey) -> None:
        call = self.store.create_session(key, SessionInfo(id=key.id))
        if key in self.model:
            with pytest.raises(Conflict):
                self.run(call)
        else:
            self.run(call)
            self.model[key] = ModelSession()

    @rule(key=keys)
    def delete(self, key: SessionKey) -> None:
        if key in self.model and self.model[key].unfinished:
            with pytest.raises(SessionBusy):
                self.run(self.store.delete_session(key))
            return
        assert self.run(self.store.delete_session(key)) == (key in self.model)
        gone = self.model.pop(key, ModelSession())
        self.leases = {held: lease for held, lease in self.leases.items() if held[1] != key}
        for turn in gone.turns:
            self.deliveries.pop(turn.id, None)

    @rule()
    def all_leases_end(self) -> None:
        self.run(self.pass_time(self.store.lease_s * 1.1))
        self.alive = set(self.joined)
        self.run(self._tick())

    @rule(key=keys, data=st.data())
    def read_from_a_cursor(self, key: SessionKey, data: st.DataObject) -> None:
        session = self.model.get(key)
        if session is None:
            return
        place = data.draw(st.integers(0, len(session.log)))
        cursor = session.log[place - 1] if place else START
        found, _ = self.run(log_of(self.store, key, cursor, limit=3))
        assert [event.cursor for event in found] == session.log[place:]

    @invariant()
    def everything_reads_as_the_model_says(self) -> None:
        for key, session in self.model.items():
            info = self.run(self.store.session(key))
            assert info is not None
            assert info.turns == len(session.turns)
            turns = self.run(self.store.turns(key, None, 100)).items
            assert [turn.id for turn in turns] == [turn.id for turn in session.turns]
            unfinished = [turn.id for turn in turns if not turn.ended]
            assert sorted(unfinished) == sorted(session.unfinished)
            messages = self.run(transcript_of(self.store, key, limit=2))
            assert [message.content for message in messages] == session.said
            self._check_states(session)
        listed = [info.id for info in self.run(self.store.sessions("acme", None, 10)).items]
        assert listed == [key.id for key in self.model if key.tenant == "acme"]

    async def _tick(self) -> None:
        self.store.tick()

    def _check_states(self, session: ModelSession) -> None:
        if session.lease is None:
            return
        for agent, turn_id in (("helper", ""), *((t.agent, t.id) for t in session.turns[-2:])):
            found = self.run(self.store.load(session.lease, agent, turn_id))
            unseen = [message.content for message in found.unseen]
            assert (found.data, unseen) == session.state(agent, turn_id)

    @staticmethod
    def turn(session: ModelSession, turn_id: str) -> Turn:
        return next(turn for turn in session.turns if turn.id == turn_id)
