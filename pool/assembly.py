"""Puts together what each agent of a pool needs: its dispatcher, its supervisor and its limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import copy_context
from random import Random
from typing import TYPE_CHECKING

from pool.agents.adapt import adapt
from pool.clock import clock_of
from pool.config import AgentSpec, PoolConfig
from pool.dispatcher import Dispatcher
from pool.guard.answers import Answers
from pool.guard.answers_memory import MemoryAnswers
from pool.guard.answers_stores import AnswerStore
from pool.guard.gate import gate_of
from pool.guard.tool_rules import ToolRules
from pool.limiter import Limiter
from pool.observer import Observers
from pool.runner import Runner
from pool.supervisor import Supervisor
from pool.turns import Turns

if TYPE_CHECKING:
    from pool.guard.privacy import Privacy


def limiters(specs: Mapping[str, AgentSpec], config: PoolConfig) -> dict[str, Limiter]:
    """A limit for each agent, one and the same for those that name the same.

    A shared limit starts at the smallest `limit_initial` of its agents, and may rise to all their
    actors.
    """
    shared: dict[str, list[AgentSpec]] = {}
    for name, spec in specs.items():
        shared.setdefault(spec.limit or name, []).append(spec)
    made = {}
    for name, members in shared.items():
        ceiling = sum(spec.max for spec in members)
        made[name] = Limiter(
            name,
            limit=min((s.limit_initial for s in members if s.limit_initial), default=ceiling),
            ceiling=ceiling,
            decrease=config.limit_decrease,
            window_s=config.limit_window_s,
        )
    return {name: made[spec.limit or name] for name, spec in specs.items()}


def add_dispatchers(
    dispatchers: dict[str, Dispatcher],
    specs: Mapping[str, AgentSpec],
    turns: Turns,
    *,
    config: PoolConfig,
    observers: Observers,
    random: Random,
    answers: AnswerStore | None,
    privacy: Privacy | None,
    tools: ToolRules | None,
) -> None:
    """Fill `dispatchers`, which `turns` knows already, with one for each agent. `answers`: where
    those are kept of agents that want it (None: each in a memory of its own).
    """
    clock = clock_of(asyncio.get_running_loop())
    context = copy_context()
    limits = limiters(specs, config)
    for name, spec in specs.items():
        dispatcher = dispatchers[name] = Dispatcher(
            name,
            spec,
            config=config,
            limiter=limits[name],
            observers=observers,
            clock=clock,
            started=turns.started,
        )
        sharing = [other for other in specs if limits[other] is limits[name]]
        dispatcher.supervisor = Supervisor(
            name,
            adapt(spec.agent),
            Runner(
                spec,
                turns,
                gate=gate_of(tools, name, spec.gate),
                config=config,
                observers=observers,
                answers=_answers(spec, answers, random=random, clock=clock),
                privacy=privacy,
            ).run,
            config=config,
            random=random,
            observers=observers,
            context=context,
            ready=_pump(dispatchers, sharing) if len(sharing) > 1 else dispatcher.pump,
            lost=turns.crashes.lost,
        )


def _answers(
    spec: AgentSpec, store: AnswerStore | None, *, random: Random, clock: Callable[[], float]
) -> Answers | None:
    cache = spec.cache
    if cache is None:
        return None
    if store is None:
        store = MemoryAnswers(max_entries=cache.max_entries, max_bytes=cache.max_bytes, clock=clock)
    return Answers(cache, store, random=random)


def _pump(dispatchers: Mapping[str, Dispatcher], names: list[str]) -> Callable[[], None]:
    def pump() -> None:
        # A permit came back: whoever of those that share it waits may take it, in rotation.
        names.append(names.pop(0))
        for name in names:
            dispatchers[name].pump()

    return pump
