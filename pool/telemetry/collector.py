"""The families of metrics, made from the tallies and the pool's state at the moment of a scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pool.stats import PoolStats
from pool.telemetry.gauges import gauges
from pool.telemetry.tally import AgentTally, Distribution


class PoolCollector(Collector):
    """Reads what was counted. Without `stats` there are no gauges yet."""

    def __init__(self, tallies: Mapping[str, AgentTally], lag: Distribution) -> None:
        self._tallies = tallies
        self._lag = lag
        # what was told of budgets, by name and outcome
        self.budgets: Counter[tuple[str, str]] = Counter()
        # how many circuit breakers of an agent's models are tripped
        self.tripped: dict[str, Callable[[], int]] = {}
        # and of its tools
        self.tripped_tools: dict[str, Callable[[], int]] = {}
        self.stats: Callable[[], PoolStats] | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry is the pool's own, and its names need no check at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family, with one sample an agent and value of its second label."""
        for tally in self._tallies.values():
            tally.add_up()
        yield from self._turns()
        yield from self._models()
        yield from self._actors()
        yield from self._troubles()
        if self.stats is not None:
            yield from gauges(self.stats())

    def _turns(self) -> Iterator[Metric]:
        yield self._by(
            "actorpool_turns",
            "Turns that ended, by the state they ended in.",
            "state",
            lambda tally: tally.turns,
        )
        yield self._distribution(
            "actorpool_turn_seconds",
            "Seconds from a turn's acceptance to its end, without the wait for humans.",
            lambda tally: tally.turns_s,
        )
        yield self._distribution(
            "actorpool_turn_queue_seconds",
            "Seconds a turn waited in the queue.",
            lambda tally: tally.queued,
        )
        yield self._distribution(
            "actorpool_turn_first_token_seconds",
            "Seconds from a turn's acceptance to the first text of its answer.",
            lambda tally: tally.first_token,
        )
        yield self._by(
            "actorpool_tokens",
            "Tokens of models that turns used.",
            "direction",
            lambda tally: {"input": tally.input_tokens, "output": tally.output_tokens},
        )
        yield self._count(
            "actorpool_unpriced_turns",
            "Turns whose cost is not known, for want of a price.",
            lambda tally: tally.unpriced,
        )
        yield self._told_of_budgets()
        yield self._by(
            "actorpool_refusals",
            "Turns that were not admitted, by the reason's code.",
            "reason",
            lambda tally: tally.refusals,
        )
        yield self._by(
            "actorpool_inputs_flagged",
            "Inputs that the screen found suspicious, by what followed: flag, or refuse.",
            "action",
            lambda tally: tally.flagged,
        )
        yield self._decided_about_tools()
        yield self._by(
            "actorpool_turns_moved",
            "Turns that changed the process that runs them, by how.",
            "how",
            lambda tally: tally.moved,
        )
        yield self._by(
            "actorpool_webhooks",
            "Tries to deliver a webhook, by outcome.",
            "outcome",
            lambda tally: tally.webhooks,
        )

    def _told_of_budgets(self) -> Metric:
        family = CounterMetricFamily(
            "actorpool_budget_notices",
            "Alerts of budgets, and turns that did not fit: warned, cheaper or refused.",
            labels=("budget", "outcome"),
        )
        for names, count in self.budgets.items():
            family.add_metric(names, count)
        return family

    def _decided_about_tools(self) -> Metric:
        # without the tools' names: those of MCP servers are not ours
        family = CounterMetricFamily(
            "actorpool_tool_decisions",
            "Decisions about calls of tools: allow, ask or deny, by the gate or a human.",
            labels=("agent", "decision", "by"),
        )
        for agent, tally in self._tallies.items():
            for names, count in tally.tool_decisions.items():
                family.add_metric((agent, *names), count)
        return family

    def _models(self) -> Iterator[Metric]:
        yield self._by(
            "actorpool_model_decisions",
            "What was decided about the models that answer, by step.",
            "step",
            lambda tally: tally.model_decisions,
        )
        tripped = GaugeMetricFamily(
            "actorpool_model_breakers_tripped",
            "Circuit breakers of models and their providers that do not let every call through.",
            labels=("agent",),
        )
        for agent, read in self.tripped.items():
            tripped.add_metric((agent,), read())
        yield tripped
        resting = GaugeMetricFamily(
            "actorpool_tool_breakers_tripped",
            "Circuit breakers of tools that do not let every call through.",
            labels=("agent",),
        )
        for agent, read in self.tripped_tools.items():
            resting.add_metric((agent,), read())
        yield resting

    def _actors(self) -> Iterator[Metric]:
        yield self._count(
            "actorpool_actor_starts", "Actors that opened.", lambda tally: tally.starts
        )
        yield self._by(
            "actorpool_actor_stops",
            "Actors that are gone: retired, crashed, abandoned, or failed to open.",
            "reason",
            lambda tally: tally.stops,
        )
        yield self._by(
            "actorpool_scale_moves",
            "Changes of how many actors are wanted.",
            "direction",
            lambda tally: tally.scale_moves,
        )
        yield self._by(
            "actorpool_limit_changes",
            "Changes of the concurrency limit.",
            "direction",
            lambda tally: tally.limit_moves,
        )

    def _troubles(self) -> Iterator[Metric]:
        yield self._count(
            "actorpool_leaked_tasks",
            "Tasks that turns left behind; they were cancelled.",
            lambda tally: tally.leaked,
        )
        yield self._count(
            "actorpool_loop_blocked",
            "Times that an agent's code made the event loop stand still.",
            lambda tally: tally.blocked,
        )
        lag = HistogramMetricFamily(
            "actorpool_loop_lag_seconds", "Seconds that a timer of the event loop came late."
        )
        lag.add_metric((), self._lag.buckets(), self._lag.total)
        yield lag

    def _count(self, name: str, help_: str, read: Callable[[AgentTally], int]) -> Metric:
        family = CounterMetricFamily(name, help_, labels=("agent",))
        for agent, tally in self._tallies.items():
            family.add_metric((agent,), read(tally))
        return family

    def _by(
        self, name: str, help_: str, label: str, read: Callable[[AgentTally], Mapping[str, int]]
    ) -> Metric:
        family = CounterMetricFamily(name, help_, labels=("agent", label))
        for agent, tally in self._tallies.items():
            for value, count in read(tally).items():
                family.add_metric((agent, value), count)
        return family

    def _distribution(
        self, name: str, help_: str, read: Callable[[AgentTally], Distribution]
    ) -> Metric:
        family = HistogramMetricFamily(name, help_, labels=("agent",))
        for agent, tally in self._tallies.items():
            distribution = read(tally)
            family.add_metric((agent,), distribution.buckets(), distribution.total)
        return family
