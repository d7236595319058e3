"""Makes the parts of an open pool, and ties them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

from msgspec import Struct

from pool.acceptor import Acceptor
from pool.assembly import add_dispatchers
from pool.clock import clock_of
from pool.config import AgentSpec, PoolConfig
from pool.decisions import Decisions
from pool.dispatcher import Dispatcher
from pool.doubts import Doubts
from pool.follow import Followers
from pool.guard.answers_stores import AnswerStore
from pool.guard.audit import Audit
from pool.guard.ledger import Ledger
from pool.guard.screen import Screen
from pool.guard.switches import Switches
from pool.guard.tool_rules import ToolRules
from pool.ids import Ids
from pool.intake import Intake
from pool.letters import Letters
from pool.observer import Observers
from pool.order import InOrder
from pool.replicas import Replicas
from pool.sessions import Sessions
from pool.stats import PoolStats
from pool.store.base import Store
from pool.takeover import Takeover
from pool.turns import Turns
from pool.upkeep import Upkeep
from pool.webhooks import Deliveries, Webhooks

if TYPE_CHECKING:
    from pool.guard.privacy import Privacy


class Parts(Struct, frozen=True):
    """What an open pool is made of."""

    sessions: Sessions
    turns: Turns
    order: InOrder
    decisions: Decisions
    followers: Followers
    replicas: Replicas
    takeover: Takeover
    intake: Intake
    upkeep: Upkeep
    deliveries: Deliveries | None


def wire(
    *,
    name: str,
    config: PoolConfig,
    store: Store,
    specs: Mapping[str, AgentSpec],
    dispatchers: dict[str, Dispatcher],
    default_agent: str,
    ids: Ids,
    observers: Observers,
    webhooks: Webhooks | None,
    random: Random,
    wall: Callable[[], float],
    stats: Callable[[], PoolStats],
    switches: Switches,
    audit: Audit | None,
    ledger: Ledger,
    answers: AnswerStore | None,
    screen: Screen | None,
    privacy: Privacy | None,
    tools: ToolRules | None,
) -> Parts:
    """All parts of the pool `name`, on the running loop; `dispatchers` is filled."""
    sessions = Sessions()
    doubts = Doubts()
    deliveries = None
    if webhooks is not None:
        deliveries = Deliveries(
            webhooks, store=store, config=config, observers=observers, random=random
        )
    turns = Turns(
        config=config,
        store=store,
        sessions=sessions,
        dispatchers=dispatchers,
        observers=observers,
        deliveries=deliveries,
        doubts=doubts,
        ledger=ledger,
        clock=clock_of(asyncio.get_running_loop()),
        wall=wall,
        random=random,
    )
    turns.billing.max_tokens = {name: spec.max_tokens for name, spec in specs.items()}
    add_dispatchers(
        dispatchers,
        specs,
        turns,
        config=config,
        observers=observers,
        random=random,
        answers=answers,
        privacy=privacy,
        tools=tools,
    )
    spawn = turns.errands.spawn
    order = InOrder(spawn)
    letters = Letters(store, turns)
    decisions = Decisions(store, turns, letters, order, observers)
    turns.approvals.lapsed = decisions.lapsed
    followers = Followers(name, store, session=sessions.get, spawn=spawn)
    sessions.unattended = followers.check_soon
    replicas = Replicas(name, store, stats)
    turns.revival.served_elsewhere = replicas.serve
    takeover = Takeover(
        name=name,
        config=config,
        store=store,
        sessions=sessions,
        turns=turns,
        dispatchers=dispatchers,
        order=order,
        letters=letters,
        doubts=doubts,
    )
    acceptor = Acceptor(
        name=name,
        store=store,
        sessions=sessions,
        turns=turns,
        billing=turns.billing,
        observers=observers,
        letters=letters,
        takeover=takeover,
        doubts=doubts,
    )
    intake = Intake(
        name=name,
        config=config,
        store=store,
        sessions=sessions,
        turns=turns,
        dispatchers=dispatchers,
        default_agent=default_agent,
        ids=ids,
        observers=observers,
        wall=wall,
        order=order,
        acceptor=acceptor,
        replicas=replicas,
        webhooks=webhooks,
        switches=switches,
        audit=audit,
        screen=screen,
    )
    upkeep = Upkeep(
        store,
        replicas=replicas,
        takeover=takeover,
        sessions=sessions,
        followers=followers,
        letters=letters,
        order=order,
        spawn=spawn,
        every_s=config.tick_s,
    )
    return Parts(
        sessions=sessions,
        turns=turns,
        order=order,
        decisions=decisions,
        followers=followers,
        replicas=replicas,
        takeover=takeover,
        intake=intake,
        upkeep=upkeep,
        deliveries=deliveries,
    )
