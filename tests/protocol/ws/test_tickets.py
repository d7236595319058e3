"""Tickets of a store: good once, wherever they are shown, and for a minute."""

from __future__ import annotations

import asyncio

import pytest

from pool.errors import RateLimited, StoreUnavailable
from pool.guard.caller import Caller
from pool.store.cabinet import Document
from pool.store.memory import MemoryStore
from pool.turn import Principal
from protocol.problems import Unauthenticated
from protocol.ws.tickets import KIND, Tickets

ANN = Caller(Principal("acme", "ann", ("user", "operator")), "key:0123456789abcdef", 7.0)
BOB = Caller(Principal("other", "bob"))


class Clock:
    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


class Away(MemoryStore):
    """A store that can be away, and counts how often it was listed."""

    away = False
    listings = 0

    async def put(self, kind, documents):
        self._check()
        await super().put(kind, documents)

    async def get(self, kind, id):  # noqa: A002 - the word of the protocol
        self._check()
        data = await super().get(kind, id)
        # whoever asks at once is told of it as well
        await asyncio.sleep(0)
        return data

    async def documents(self, kind, after, limit):
        self.listings += 1
        return await super().documents(kind, after, limit)

    def _check(self):
        if self.away:
            raise StoreUnavailable("the store is away")


async def refused(tickets, ticket):
    """The ticket is worth nothing."""
    with pytest.raises(Unauthenticated, match="unknown, used or too old"):
        await tickets.redeem(ticket)


async def kept(store):
    """All that the store has of tickets."""
    return (await store.documents(KIND, None, 1_000))[0]


async def test_a_ticket_is_good_once():
    """A ticket gives its caller, and nothing the second time."""
    tickets = Tickets(MemoryStore())
    ticket = await tickets.issue(ANN)
    await tickets.issue(BOB)
    assert await tickets.redeem(ticket) == ANN
    await refused(tickets, ticket)


async def test_a_ticket_is_good_in_every_process_of_the_store():
    """Wherever the load balancer sends its owner; and once in all of them together."""
    store = MemoryStore()
    here, there = Tickets(store), Tickets(store)
    ticket = await here.issue(ANN)
    assert await there.redeem(ticket) == ANN
    await refused(here, ticket)
    await refused(there, ticket)


async def test_of_two_that_show_a_ticket_at_once_one_is_let_in():
    """Both find it; one removes it."""
    store = Away()
    tickets = [Tickets(store) for _ in range(4)]
    ticket = await tickets[0].issue(ANN)
    found = await asyncio.gather(*(each.redeem(ticket) for each in tickets), return_exceptions=True)
    assert [each for each in found if not isinstance(each, Unauthenticated)] == [ANN]


async def test_a_ticket_is_good_for_a_minute():
    """At the end of its time a ticket is worth nothing."""
    clock = Clock()
    tickets = Tickets(MemoryStore(), wall=clock)
    ticket = await tickets.issue(ANN)
    clock.now += 59.9
    late = await tickets.issue(ANN)
    clock.now += 0.1
    await refused(tickets, ticket)
    assert await tickets.redeem(late) == ANN


async def test_tickets_that_nobody_used_are_removed():
    """Also those of a process that is gone, and what cannot be read; others stay."""
    clock, store = Clock(), MemoryStore()
    for _ in range(3):
        await Tickets(store, wall=clock).issue(ANN)
    await store.put(KIND, [Document("other", b"?")])
    clock.now += 61
    tickets = Tickets(store, wall=clock)
    good = await tickets.issue(BOB)
    assert len(await kept(store)) == 1
    clock.now += 59
    await tickets.issue(BOB)
    assert await tickets.redeem(good) == BOB


@pytest.mark.parametrize("ticket", ["", "x", "\ud800", "a" * 10_000])
async def test_an_unknown_ticket_is_refused(ticket):
    """Whatever is given in place of a ticket, the answer is the same."""
    await refused(Tickets(MemoryStore()), ticket)


async def test_a_ticket_that_cannot_be_read_is_refused():
    """One of a newer version, say; nothing breaks."""
    store = MemoryStore()
    tickets = Tickets(store)
    ticket = await tickets.issue(ANN)
    (document,) = await kept(store)
    await store.put(KIND, [Document(document.id, b'{"caller": 7}')])
    await refused(tickets, ticket)


async def test_one_tenant_cannot_take_all_tickets():
    """A tenant with its share unused gets no more until they end; others do."""
    clock = Clock()
    tickets = Tickets(MemoryStore(), wall=clock, most_per_tenant=2)
    await tickets.issue(ANN)
    clock.now += 10.0
    await tickets.issue(ANN)
    with pytest.raises(RateLimited) as caught:
        await tickets.issue(ANN)
    assert caught.value.retry_after_s == 50.0
    await tickets.issue(BOB)
    clock.now += 50.0
    await tickets.issue(ANN)


async def test_the_number_of_tickets_is_bounded():
    """When there are as many as may be, there are no more until some are used."""
    tickets = Tickets(MemoryStore(), most=2)
    first = await tickets.issue(ANN)
    await tickets.issue(BOB)
    with pytest.raises(RateLimited):
        await tickets.issue(BOB)
    await tickets.redeem(first)
    await tickets.issue(BOB)
    assert repr(tickets) == "<Tickets 2 of 2>"


async def test_tickets_that_were_used_elsewhere_make_room():
    """The store is asked which are left when it looks full, once a second at most."""
    clock, store = Clock(), Away()
    here, there = (Tickets(store, wall=clock, most_per_tenant=3) for _ in range(2))
    tickets = [await here.issue(ANN) for _ in range(3)]
    for ticket in tickets:
        await there.redeem(ticket)
    clock.now += 1
    tickets = [await here.issue(ANN) for _ in range(3)]
    before = store.listings
    for _ in range(5):
        with pytest.raises(RateLimited):
            await here.issue(ANN)
    assert store.listings == before
    assert len(tickets) == 3


async def test_without_the_store_nobody_is_told_that_the_ticket_is_bad():
    """Neither is one issued that nobody could use; afterwards both are as ever."""
    store = Away()
    tickets = Tickets(store, most=2)
    ticket = await tickets.issue(ANN)
    store.away = True
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await tickets.issue(ANN)
    with pytest.raises(StoreUnavailable):
        await tickets.redeem(ticket)
    store.away = False
    assert await tickets.redeem(ticket) == ANN
    assert repr(tickets) == "<Tickets 0 of 2>"


async def test_a_ticket_cannot_be_read_out_of_what_is_kept():
    """Neither the process nor the store holds a ticket as it was issued."""
    store = MemoryStore()
    tickets = Tickets(store)
    ticket = await tickets.issue(ANN)
    (document,) = await kept(store)
    assert ticket not in repr(vars(tickets)) + repr(document)
