"""Whether a turn is taken."""

from __future__ import annotations

import msgspec
import pytest

from pool.admission import Load, estimated_wait_s, refusal
from pool.errors import Overloaded, TenantQueueFull

BUSY = Load(
    queued=9,
    queue_max=100,
    tenant_queued=1,
    tenant_queue_max=50,
    at_once=False,
    ahead=9,
    ahead_in_session=0,
    mean_hold_s=4.0,
    capacity=2,
    start_s=0.0,
)


def but(**changes: object) -> Load:
    """A busy agent, but for some changes."""
    return msgspec.structs.replace(BUSY, **changes)


@pytest.mark.parametrize(
    ("load", "wait_s"),
    [
        (BUSY, 20.0),
        (but(start_s=1.5), 21.5),
        (but(at_once=True), 0.0),
        (but(mean_hold_s=None), 0.0),
        (but(ahead_in_session=7), 28.0),
        (but(at_once=True, ahead_in_session=2), 8.0),
    ],
)
def test_the_wait_is_estimated(load: Load, wait_s: float) -> None:
    """(ahead + 1) * hold / capacity, or the turns of the session before it, whichever is longer."""
    assert estimated_wait_s(load) == wait_s


def test_a_turn_that_can_be_answered_in_time_is_taken() -> None:
    """Wait and run fit into the deadline."""
    assert refusal(BUSY, agent="a", deadline_s=24.0) is None


def test_a_turn_that_would_be_late_is_refused_with_the_time_to_wait() -> None:
    """Retry after the wait minus the deadline: then the queue is short enough."""
    refused = refusal(BUSY, agent="a", deadline_s=5.0)
    assert isinstance(refused, Overloaded)
    assert refused.retry_after_s == 15.0
    assert "allow more time" in str(refused)


def test_an_idle_pool_takes_any_deadline() -> None:
    """With nothing to wait for, the deadline is the caller's business."""
    assert refusal(but(at_once=True), agent="a", deadline_s=0.001) is None


def test_a_full_queue_refuses() -> None:
    """The pool is full: 503, with the time until a place is free."""
    refused = refusal(but(queued=100), agent="a", deadline_s=600)
    assert isinstance(refused, Overloaded)
    assert refused.retry_after_s == 2.0


def test_a_full_share_refuses_its_tenant_only() -> None:
    """The tenant has its share: 429."""
    refused = refusal(but(tenant_queued=50), agent="a", deadline_s=600)
    assert isinstance(refused, TenantQueueFull)
    assert refusal(but(tenant_queued=49), agent="a", deadline_s=600) is None


def test_a_full_queue_that_knows_nothing_says_a_second() -> None:
    """Before the first turn has ended there is no estimate, but no invitation to come at once."""
    refused = refusal(but(queued=100, mean_hold_s=None), agent="a", deadline_s=600)
    assert refused is not None
    assert refused.retry_after_s == 1.0
