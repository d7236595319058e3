"""Any sequence of calls leaves a store as the model says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from pool.errors import Conflict, LeaseLost, NotFound, SessionBusy
from pool.events import START, Cursor
from pool.store.base import Lease, SessionKey, StateChange
from pool.turn import SessionInfo, State
from tests.contract.model import ModelSession
from tests.contract.steps import finish, log_of, make_turn, said, stamped, transcript_of
from tests.contract.stores import LEASE_TTL_S, Opening, every_store

T = TypeVar("T")

keys = st.sampled_from([SessionKey("acme", "s1"), SessionKey("acme", "s2"), SessionKey("x", "s1")])
owners = st.sampled_from("ab")
agents = st.sampled_from(["helper", "other"])
ends = st.sampled_from(["completed", "failed", "cancelled", "interrupted", "expired"])
changes = st.none() | st.builds(
    StateChange, st.just("f/1"), st.binary(max_size=3), append=st.booleans()
)
texts = st.lists(st.text(max_size=3), max_size=4)


class StoreMachine(RuleBasedStateMachine):
    """Drives a store and the model side by side; owners write with a lease that may be lost."""

    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.store, self.pass_time = self.run(self.stack.enter_async_context(opening()))
        self.now = 0.0
        self.model: dict[SessionKey, ModelSession] = {}
        # what each owner believes that it holds
        self.leases: dict[tuple[str, SessionKey], Lease] = {}

    def run(self, call: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.ensure_future(call, loop=self.loop))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()

    @rule(
        key=keys,
        owner=owners,
        agent=agents,
        idempotency=st.sampled_from([None, "k1", "k2"]),
        reject_busy=st.booleans(),
    )
    def accept(
        self, key: SessionKey, owner: str, agent: str, idempotency: str | None, reject_busy: bool
    ) -> None:
        session = self.model.get(key, ModelSession())
        turn = make_turn(idempotency or "hello", key=key, agent="helper" if idempotency else agent)
        call = self.store.accept(turn, owner=owner, key=idempotency, reject_busy=reject_busy)
        if idempotency in session.keys:
            found = self.run(call)
            assert (found.new, found.turn.id) == (False, session.keys[idempotency])
            return
        if reject_busy and session.unfinished:
            with pytest.raises(SessionBusy):
                self.run(call)
            return
        accepted = self.run(call)
        self.model[key] = session
        assert accepted.new
        assert accepted.end == (session.log[-1] if session.log else Cursor(accepted.end.epoch, 0))
        assert (accepted.lease is not None) == session.free(self.now)
        if accepted.lease is not None:
            session.claim(accepted.lease, self.now + LEASE_TTL_S)
            self.leases[owner, key] = accepted.lease
        assert session.lease is not None
        assert accepted.owner == session.lease.owner
        session.turns.append(turn)
        session.unfinished.append(turn.id)
        if idempotency is not None:
            session.keys[idempotency] = turn.id

    @rule(key=keys, owner=owners, texts=texts, change=changes, pick=st.integers(0, 3))
    def append(
        self, key: SessionKey, owner: str, texts: list[str], change: StateChange | None, pick: int
    ) -> None:
        session, lease = self.model.get(key), self.leases.get((owner, key))
        if session is None or lease is None or not session.unfinished:
            return
        turn = self._turn(session, session.unfinished[pick % len(session.unfinished)])
        events = stamped(said(*texts), turn, lease.epoch, len(session.log))
        call = self.store.append(lease, events, turn, change)
        if lease != session.lease:
            with pytest.raises(LeaseLost):
                self.run(call)
            return
        self.run(call)
        session.log += [event.cursor for event in events]
        session.held_until = self.now + LEASE_TTL_S
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
        if lease != session.lease:
            with pytest.raises(LeaseLost):
                self.run(self.store.commit(lease, turn, events, change))
        elif turn.id not in session.unfinished:
            released = self.run(self.store.commit(lease, turn, events, change))
            assert released == (not session.unfinished)
        else:
            finish(turn, end, output)
            released = self.run(self.store.commit(lease, turn, events, change))
            session.log += [event.cursor for event in events]
            assert released == session.end(turn, change, self.now + LEASE_TTL_S)

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
        self.model.pop(key, None)
        self.leases = {held: lease for held, lease in self.leases.items() if held[1] != key}

    @rule(seconds=st.sampled_from([1.0, LEASE_TTL_S + 1, 600.0]))
    def pass_some_time(self, seconds: float) -> None:
        self.now += seconds
        self.run(self.pass_time(seconds))
        self.store.tick()

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

    def _check_states(self, session: ModelSession) -> None:
        if session.lease is None:
            return
        for agent, turn_id in (("helper", ""), *((t.agent, t.id) for t in session.turns[-2:])):
            found = self.run(self.store.load(session.lease, agent, turn_id))
            unseen = [message.content for message in found.unseen]
            assert (found.data, unseen) == session.state(agent, turn_id)

    @staticmethod
    def _turn(session: ModelSession, turn_id: str) -> Any:
        return next(turn for turn in session.turns if turn.id == turn_id)


@every_store
def test_any_sequence_of_calls_agrees_with_the_model(opening: Opening) -> None:
    """Whatever is called in whatever order, the store reads as the model says."""
    run_state_machine_as_test(
        lambda: StoreMachine(opening),  # type: ignore[arg-type]
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
