"""Metrics of one pool for Prometheus: an observer that counts, and a page that is written when
asked for.

Every `Metrics` has a registry of its own, so that two pools in one process never meet. No series
has a tenant or a session: their number is bounded by the agents and budgets of the configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import monotonic
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from pool.guard.budget_notices import BudgetNotice
from pool.observer import (
    ActorStartedNotice,
    ActorStoppedNotice,
    InputFlaggedNotice,
    LimitChangedNotice,
    LoopBlockedNotice,
    ModelDecidedNotice,
    Notice,
    ScaledNotice,
    Take,
    TasksLeakedNotice,
    ToolDecidedNotice,
    TurnEndedNotice,
    TurnMovedNotice,
    TurnRefusedNotice,
)
from pool.stats import PoolStats
from pool.telemetry.collector import PoolCollector
from pool.telemetry.tally import ENDED_MAX, LAG_BOUNDS, AgentTally, Distribution
from pool.webhooks import WebhookNotice

LAG_INTERVAL_S: Final = 0.5


class Metrics:
    """Counts what the engine tells. Give it to a pool as an observer, then let it `watch` that
    pool.

    `agents`: the names of all agents of the pool. What is told of any other is not counted.
    `registry`: other collectors may be added to it.
    """

    def __init__(self, agents: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self._tallies = {agent: AgentTally() for agent in agents}
        self._lag = Distribution(LAG_BOUNDS)
        self._collector = PoolCollector(self._tallies, self._lag)
        self._timer: asyncio.TimerHandle | None = None
        self._takers: dict[type[Notice], Take] = {
            TurnEndedNotice: self._count_turn,
            BudgetNotice: self._count_budget,
        }
        for kind, count in _COUNTS.items():
            self._takers[kind] = partial(self._count, count)
        self.registry.register(self._collector)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def notice(self, notice: Notice) -> None:
        """Count what happened."""
        take = self._takers.get(type(notice))
        if take is not None:
            take(notice)

    def taker(self, kind: type[Notice]) -> Take | None:
        """See `Chooser`."""
        return self._takers.get(kind)

    def watch(self, stats: Callable[[], PoolStats]) -> None:
        """Read the gauges (actors, queue, limit) from `stats` (a pool's own method) at every
        scrape.
        """
        self._collector.stats = stats

    def watch_breakers(self, agent: str, tripped: Callable[[], int]) -> None:
        """Read at every scrape how many circuit breakers of the agent's models let not every call
        through (`ModelCalls.tripped`).
        """
        self._collector.tripped[agent] = tripped

    def watch_tools(self, agent: str, tripped: Callable[[], int]) -> None:
        """The same for the circuit breakers of its tools (`Tool.tripped`)."""
        self._collector.tripped_tools[agent] = tripped

    def start(self) -> None:
        """Sample how late the running loop is, every half second, until `stop`."""
        self.stop()
        self._sample(asyncio.get_running_loop(), monotonic())

    def stop(self) -> None:
        """Sample no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the best format of an `Accept` header (OpenMetrics, or
        text).
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _count_turn(self, notice: TurnEndedNotice) -> None:
        tally = self._tallies.get(notice.agent)
        if tally is not None:
            turn = notice.turn
            ended = tally.ended
            # kept as they are: a hundred are added up for what ten cost one by one
            ended.append((turn.state, turn.queued_s, turn.run_s, notice.first_token_s, turn.usage))
            if len(ended) >= ENDED_MAX:
                tally.add_up()

    def _count_budget(self, notice: BudgetNotice) -> None:
        self._collector.budgets[notice.budget, notice.outcome] += 1

    def _count(self, count: Callable[[AgentTally, Any], None], notice: Notice) -> None:
        tally = self._tallies.get(notice.agent)
        if tally is not None:
            count(tally, notice)

    def _sample(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        # a clock of its own: uvloop's counts milliseconds, and stands still within a tick
        now = monotonic()
        self._lag.add((max(0.0, now - due),))
        due = now + LAG_INTERVAL_S
        self._timer = loop.call_later(LAG_INTERVAL_S, self._sample, loop, due)


def _count_refusal(tally: AgentTally, notice: TurnRefusedNotice) -> None:
    tally.refusals[notice.code] += 1


def _count_flagged(tally: AgentTally, notice: InputFlaggedNotice) -> None:
    tally.flagged[notice.action] += 1


def _count_start(tally: AgentTally, notice: ActorStartedNotice) -> None:
    tally.starts += 1


def _count_stop(tally: AgentTally, notice: ActorStoppedNotice) -> None:
    tally.stops[notice.reason] += 1


def _count_scale_move(tally: AgentTally, notice: ScaledNotice) -> None:
    tally.scale_moves[_direction(notice.before, notice.after)] += 1


def _count_limit_move(tally: AgentTally, notice: LimitChangedNotice) -> None:
    tally.limit_moves[_direction(notice.before, notice.after)] += 1


def _count_leak(tally: AgentTally, notice: TasksLeakedNotice) -> None:
    tally.leaked += notice.count


def _count_blocked(tally: AgentTally, notice: LoopBlockedNotice) -> None:
    tally.blocked += 1


def _count_move(tally: AgentTally, notice: TurnMovedNotice) -> None:
    tally.moved[notice.how] += 1


def _count_decision(tally: AgentTally, notice: ModelDecidedNotice) -> None:
    tally.model_decisions[notice.step] += 1


def _count_tool(tally: AgentTally, notice: ToolDecidedNotice) -> None:
    tally.tool_decisions[notice.decision.action, notice.by] += 1


def _count_webhook(tally: AgentTally, notice: WebhookNotice) -> None:
    tally.webhooks[notice.outcome] += 1


def _direction(before: int, after: int) -> str:
    return "up" if after > before else "down"


_COUNTS: Final[Mapping[type[Notice], Callable[[AgentTally, Any], None]]] = {
    TurnRefusedNotice: _count_refusal,
    InputFlaggedNotice: _count_flagged,
    ActorStartedNotice: _count_start,
    ActorStoppedNotice: _count_stop,
    ScaledNotice: _count_scale_move,
    LimitChangedNotice: _count_limit_move,
    TasksLeakedNotice: _count_leak,
    LoopBlockedNotice: _count_blocked,
    TurnMovedNotice: _count_move,
    ModelDecidedNotice: _count_decision,
    ToolDecidedNotice: _count_tool,
    WebhookNotice: _count_webhook,
}
