from __future__ import annotations

import pytest

from pool.errors import RateLimited
from pool.guard.caller import Caller
from pool.turn import Principal
from protocol.problems import Unauthenticated
from protocol.ws.tickets import Tickets

ANN = Caller(Principal("acme", "ann"))
BOB = Caller(Principal("other", "bob"))


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_ticket_is_good_once():
    """A ticket gives its principal, and nothing the second time."""
    tickets = Tickets(Clock())
    ticket = tickets.issue(ANN)
    tickets.issue(BOB)
    assert tickets.redeem(ticket) == ANN
    with pytest.raises(Unauthenticated):
        tickets.redeem(ticket)


def test_a_ticket_is_good_for_a_minute():
    """At the end of its time a ticket is worth nothing, and forgotten."""
    clock = Clock()
    tickets = Tickets(clock)
    ticket = tickets.issue(ANN)
    clock.now = 59.9
    late = tickets.issue(ANN)
    clock.now = 60.0
    with pytest.raises(Unauthenticated):
        tickets.redeem(ticket)
    assert repr(tickets) == "<Tickets 1 of 10000>"
    assert tickets.redeem(late) == ANN


@pytest.mark.parametrize("ticket", ["", "x", "\ud800", "a" * 10_000])
def test_an_unknown_ticket_is_refused(ticket):
    """Whatever is given in place of a ticket, the answer is the same."""
    with pytest.raises(Unauthenticated):
        Tickets(Clock()).redeem(ticket)


def test_one_tenant_cannot_take_all_tickets():
    """A tenant with its share unused gets no more until they end; others do."""
    clock = Clock()
    tickets = Tickets(clock, most_per_tenant=2)
    tickets.issue(ANN)
    clock.now = 10.0
    tickets.issue(ANN)
    with pytest.raises(RateLimited) as caught:
        tickets.issue(ANN)
    assert caught.value.retry_after_s == 50.0
    tickets.issue(BOB)
    clock.now = 60.0
    tickets.issue(ANN)


def test_the_number_of_tickets_is_bounded():
    """When there are as many as may be, there are no more until some are used."""
    tickets = Tickets(Clock(), most=2)
    first = tickets.issue(ANN)
    tickets.issue(BOB)
    with pytest.raises(RateLimited):
        tickets.issue(BOB)
    tickets.redeem(first)
    tickets.issue(BOB)


def test_a_ticket_cannot_be_read_out_of_what_is_kept():
    """Neither the repr nor the state holds a ticket as it was issued."""
    tickets = Tickets(Clock())
    ticket = tickets.issue(ANN)
    assert ticket not in repr(vars(tickets))
