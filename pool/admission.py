"""Admission: whether a turn is taken, decided before it costs anything. Pure."""

from __future__ import annotations

from msgspec import Struct

from pool.errors import Overloaded, Refused, TenantQueueFull


class Load(Struct, frozen=True, gc=False):
    """What admission knows of an agent and its queue at one moment.

    `at_once`: an actor is idle or can start at once for this turn. `ahead`: turns that would be
    served before it; `ahead_in_session`: unfinished turns of the same session. `mean_hold_s`: how
    long a turn holds its actor (None until the first has ended). `capacity`: how many can run side
    by side. `start_s`: how long an actor takes to start, if one must be started for it, else 0.
    """

    queued: int
    queue_max: int
    tenant_queued: int
    tenant_queue_max: int
    at_once: bool
    ahead: int
    ahead_in_session: int
    mean_hold_s: float | None
    capacity: int
    start_s: float


def estimated_wait_s(load: Load) -> float:
    """Seconds until the turn would start.

    0 while an actor is idle or can start at once, and until the first turn has ended; else the
    longer of the wait for an actor and the wait for the session, plus the start of an actor.
    """
    if load.mean_hold_s is None or (load.at_once and not load.ahead_in_session):
        return 0.0
    for_actor = 0.0 if load.at_once else (load.ahead + 1) * load.mean_hold_s / load.capacity
    for_session = load.ahead_in_session * load.mean_hold_s
    return max(for_actor, for_session) + load.start_s


def refusal(load: Load, *, agent: str, deadline_s: float) -> Refused | None:
    """Why the turn is not taken, or None if it is."""
    hold_s = load.mean_hold_s or 0.0
    # until a turn has ended nobody knows: a guess that brings nobody back at once
    place_s = 1.0 if load.mean_hold_s is None else hold_s / load.capacity
    if load.queued >= load.queue_max:
        return Overloaded(
            f"the queue of agent {agent!r} is full ({load.queue_max} turns); try again later, "
            "or raise queue_max or the number of actors",
            retry_after_s=place_s,
        )
    if load.tenant_queued >= load.tenant_queue_max:
        return TenantQueueFull(
            f"this tenant has {load.tenant_queued} turns waiting for agent {agent!r}, "
            "its whole share of the queue; wait for some of them",
            retry_after_s=place_s,
        )
    wait_s = estimated_wait_s(load)
    if wait_s > 0 and wait_s + hold_s > deadline_s:
        return Overloaded(
            f"agent {agent!r} would answer in about {wait_s + hold_s:.1f} s, after the deadline of "
            f"{deadline_s:g} s; try again later or allow more time",
            retry_after_s=max(0.0, wait_s - deadline_s),
        )
    return None
