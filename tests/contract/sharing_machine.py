"""Drives a store and the model side by side: sessions that change hands, letters, webhooks."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from pool.errors import LeaseLost
from pool.events import Cursor
from pool.store.base import SessionKey
from pool.store.outbox import Delivery
from pool.store.sharing import CancelTurn, DecideCall, Nudge, Signal, TurnArrived
from tests.contract.machine import StoreMachine, keys, owners

places = st.sampled_from([0, 5])
# due again at once, or not within this test
holds = st.sampled_from([0.0, 1e6])


class SharingMachine(StoreMachine):
    """The rest of the contract."""

    @rule(owner=owners)
    def join(self, owner: str) -> None:
        self.run(self.store.join(owner, _unheard))
        self.joined.add(owner)
        self.alive.add(owner)

    @rule(owner=owners)
    def leave(self, owner: str) -> None:
        self.run(self.store.leave(owner))
        self.joined.discard(owner)
        self.alive.discard(owner)

    @rule(key=keys, owner=owners)
    def claim(self, key: SessionKey, owner: str) -> None:
        claim = self.run(self.store.claim(key, owner))
        session = self.model.get(key)
        holder = session.holder(self.alive) if session is not None else ""
        if session is None or not session.unfinished or holder not in ("", owner):
            assert claim is None
            self.unsure(owner)
            return
        assert claim is not None
        numbered = [(turn.id, number) for number, turn in enumerate(session.turns, 1)]
        waiting = [each for each in numbered if each[0] in session.unfinished]
        assert [(turn.id, number) for number, turn in claim.turns] == waiting
        assert claim.end == (session.log[-1] if session.log else Cursor(claim.end.epoch, 0))
        session.claim(claim.lease, anew=True)
        self.leases[owner, key] = claim.lease
        self.alive.add(owner)

    @rule(key=keys, owner=owners)
    def release(self, key: SessionKey, owner: str) -> None:
        session, lease = self.model.get(key), self.leases.get((owner, key))
        if session is None or lease is None:
            return
        if lease != session.lease:
            self.refused(owner, self.store.release(lease), LeaseLost)
            return
        self.run(self.store.release(lease))
        session.held = False
        self.unsure(owner)

    @rule(key=keys, pick=st.integers(0, 3), call_id=st.sampled_from([None, "c"]), asked=places)
    def signal(self, key: SessionKey, pick: int, call_id: str | None, asked: int) -> None:
        session = self.model.get(key)
        if session is None or not session.turns:
            return
        turn_id = session.turns[-1 - pick % len(session.turns)].id
        signal: Signal = CancelTurn(turn_id)
        if call_id is not None:
            signal = DecideCall(turn_id, call_id, "approve", "eve", asked=asked)
        decided = f"{turn_id} {call_id} {asked}"
        left = turn_id in session.unfinished and decided not in session.decided
        assert self.run(self.store.signal(key, signal)) == left
        if left:
            session.signals.append(signal)
            session.decided |= {decided} if call_id is not None else set()

    @rule(key=keys, owner=owners, forget=st.booleans())
    def inbox(self, key: SessionKey, owner: str, forget: bool) -> None:
        session, lease = self.model.get(key), self.leases.get((owner, key))
        if session is None or lease is None or not session.unfinished:
            return
        if lease != session.lease or not session.held:
            self.refused(owner, self.store.inbox(lease, ""), LeaseLost)
            return
        found = self.run(self.store.inbox(lease, ""))
        self.alive.add(owner)
        contents = [letter.content for letter in found.letters]
        arrived, signals = session.letters()
        told = [each for each in contents if isinstance(each, TurnArrived)]
        assert set(arrived) <= {each.turn_id for each in told}
        assert set(arrived) <= set(found.turns)
        assert all(session.turns[each.number - 1].id == each.turn_id for each in told)
        pending = (each for each in contents if not isinstance(each, TurnArrived))
        assert list(dict.fromkeys(s for s in pending if s.turn_id in session.unfinished)) == signals
        if forget and found.letters:
            self.run(self.store.inbox(lease, found.letters[-1].place))
            session.arrived.clear()
            session.signals.clear()

    @rule(hold_s=holds, limit=st.integers(1, 3))
    def deliver(self, hold_s: float, limit: int) -> None:
        taken = self.run(self.store.take_deliveries(limit, hold_s))
        mine = [each for each in taken if each.turn_id in self.deliveries]
        assert all(self.deliveries[each.turn_id] == each for each in mine)
        assert len(taken) <= limit
        if len(taken) < limit:
            assert {each.turn_id for each in mine} == set(self.deliveries) - self.held_back
        self.held_back |= {each.turn_id for each in mine if hold_s}

    @rule(delay_s=holds, pick=st.integers(0, 3), settle=st.booleans())
    def settle(self, delay_s: float, pick: int, settle: bool) -> None:
        if not self.deliveries:
            return
        turn_id = list(self.deliveries)[pick % len(self.deliveries)]
        if settle:
            self.run(self.store.settle(turn_id))
            del self.deliveries[turn_id]
            return
        self.run(self.store.put_off(turn_id, delay_s))
        self.deliveries[turn_id] = Delivery(turn_id, self.deliveries[turn_id].tries + 1)
        self.held_back -= {turn_id}
        self.held_back |= {turn_id} if delay_s else set()

    @rule(key=keys)
    def carry(self, key: SessionKey) -> None:
        session = self.model.get(key)
        carried = self.run(self.store.carry_out(key))
        assert (carried is None) == (session is None)
        if carried is None or session is None or session.unfinished:
            return
        assert self.run(self.store.carry_in(carried)) is False
        self.delete(key)
        assert self.run(self.store.carry_in(carried)) is True
        session.lease = None
        self.model[key] = session

    @invariant()
    def orphans_are_what_nobody_holds(self) -> None:
        expected = {
            key
            for key, session in self.model.items()
            if session.unfinished and not session.holder(self.alive)
        }
        assert set(self.run(self.store.orphans(100))) == expected

    @invariant()
    def replicas_are_those_that_joined(self) -> None:
        replicas = self.run(self.store.replicas())
        assert [replica.name for replica in replicas] == sorted(self.joined)


def _unheard(_: Nudge) -> None:
    pass
