from __future__ import annotations

import asyncio
from threading import Event, Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pool.agent import ALLOW, Decision, ToolCall
from pool.guard.budget_notices import BudgetNotice
from pool.observer import (
    ActorStartedNotice,
    ActorStoppedNotice,
    AgentStateNotice,
    LimitChangedNotice,
    LoopBlockedNotice,
    ModelDecidedNotice,
    ScaledNotice,
    TasksLeakedNotice,
    ToolDecidedNotice,
    TurnEndedNotice,
    TurnMovedNotice,
    TurnRefusedNotice,
    TurnStartedNotice,
)
from pool.stats import ActorStats, AgentStats, LimitStats, PoolStats, RateStats
from pool.telemetry.metrics import LAG_INTERVAL_S, Metrics
from pool.telemetry.tally import ENDED_MAX
from pool.turn import Principal, State, Turn, TurnRequest, Usage
from pool.webhooks import WebhookNotice

SECRET = "canary-8d1f"


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample of the page, by its name and the values of its labels."""
    page, _ = metrics.page()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def ended(
    state: State = "completed", *, agent: str = "a", first_token_s: float | None = 0.2
) -> TurnEndedNotice:
    """A turn's end, full of what must not be on the page."""
    turn = Turn(
        id="t1",
        tenant=SECRET,
        user=SECRET,
        session_id=SECRET,
        agent=agent,
        request=TurnRequest(input=SECRET),
        output=SECRET,
        state=state,
        queued_s=0.03,
        run_s=0.97,
        usage=Usage(input_tokens=10, output_tokens=3),
    )
    return TurnEndedNotice(agent, turn, SECRET, first_token_s)


def pool_stats(*, queued: int = 0) -> PoolStats:
    """A pool of one agent at some moment."""
    agent = AgentStats(
        name="a",
        description="",
        state="degraded",
        detail=None,
        min=1,
        max=4,
        actors=ActorStats(idle=1, busy=2, starting=3, abandoned=0),
        queued=queued,
        waiting=queued,
        oldest_wait_s=1.5,
        estimated_wait_s=2.5,
        mean_hold_s=None,
        limit=LimitStats("a", total=8, held=2),
        rates=RateStats(0.0, 0.0),
        shedding=(),
        refused={},
        stopped={},
    )
    return PoolStats("p", False, (agent,), 7, 9)


def test_counts_turns_by_agent_and_state() -> None:
    """Each ended turn is counted once, under its agent and the state it ended in."""
    metrics = Metrics(["a", "b"])
    for notice in (ended(), ended(), ended("failed"), ended(agent="b")):
        metrics.notice(notice)
    found = samples(metrics)
    assert found["actorpool_turns_total", "a", "completed"] == 2
    assert found["actorpool_turns_total", "a", "failed"] == 1
    assert found["actorpool_turns_total", "b", "completed"] == 1
    assert found["actorpool_tokens_total", "a", "input"] == 30
    assert found["actorpool_tokens_total", "a", "output"] == 9


def test_many_turns_are_counted_as_each_alone() -> None:
    """However many end between two scrapes, each is in its bucket, its sums and its state."""
    metrics = Metrics(["a"])
    values = [0.005 * number for number in range(3 * ENDED_MAX + 1)]
    for value in values:
        notice = ended(first_token_s=value)
        notice.turn.queued_s = value
        metrics.notice(notice)
    found = samples(metrics)
    assert found["actorpool_turns_total", "a", "completed"] == len(values)
    for name in ("queue", "first_token"):
        name = f"actorpool_turn_{name}_seconds"
        for bound in (0.005, 0.01, 0.5, 1.0, 2.5):
            under = sum(value <= bound for value in values)
            assert found[f"{name}_bucket", "a", str(bound)] == under
        assert found[f"{name}_bucket", "a", "+Inf"] == len(values)
        assert found[f"{name}_sum", "a"] == pytest.approx(sum(values))


def test_a_page_that_another_thread_serves_misses_no_turn() -> None:
    """While turns end, scrapes elsewhere take none twice and lose none."""
    metrics = Metrics(["a"])
    over = Event()

    def scrape() -> None:
        while not over.is_set():
            metrics.page()

    thread = Thread(target=scrape)
    thread.start()
    for _ in range(20_000):
        metrics.notice(ended())
    over.set()
    thread.join()
    assert samples(metrics)["actorpool_turns_total", "a", "completed"] == 20_000


def test_turns_without_a_price_are_counted() -> None:
    """Those that used tokens whose cost is not known; what used nothing costs nothing."""
    metrics = Metrics(["a"])
    metrics.notice(ended())
    priced, unused = ended(), ended()
    priced.turn.usage.cost_usd = 0.0
    unused.turn.usage = Usage()
    metrics.notice(priced)
    metrics.notice(unused)

    assert samples(metrics)["actorpool_unpriced_turns_total", "a"] == 1


def test_what_is_told_of_budgets_is_counted() -> None:
    """By budget and outcome, whichever agent it was about; of nobody's name there is a word."""
    metrics = Metrics(["a"])
    for outcome in ("alert", "alert", "refused"):
        metrics.notice(
            BudgetNotice(
                agent="other",
                outcome=outcome,
                budget="team",
                unit="micro",
                subject=SECRET,
                period="2026-11",
                spent=1,
                limit=2,
                percent=50,
            )
        )

    found = samples(metrics)
    assert found["actorpool_budget_notices_total", "team", "alert"] == 2
    assert found["actorpool_budget_notices_total", "team", "refused"] == 1
    assert SECRET not in metrics.page()[0].decode()


def test_decisions_about_tools_are_counted_without_their_names() -> None:
    """By agent, by what was decided and by whom; what MCP servers call their tools is not ours."""
    metrics = Metrics(["a"])
    who, call = Principal(SECRET, SECRET, ()), ToolCall(SECRET, SECRET, {SECRET: SECRET})
    ask, deny = Decision("ask", SECRET), Decision("deny", SECRET)
    for notice in (
        ToolDecidedNotice("a", SECRET, who, SECRET, call, ALLOW, "gate"),
        ToolDecidedNotice("a", SECRET, who, SECRET, call, ALLOW, "gate"),
        ToolDecidedNotice("a", SECRET, who, SECRET, call, ask, "gate"),
        ToolDecidedNotice("a", SECRET, who, SECRET, call, deny, "human"),
        ToolDecidedNotice("stranger", SECRET, who, SECRET, call, deny, "gate"),
    ):
        metrics.notice(notice)

    page = metrics.page()[0].decode()
    assert [line for line in page.splitlines() if "actorpool_tool_decisions_total{" in line] == [
        'actorpool_tool_decisions_total{agent="a",by="gate",decision="allow"} 2.0',
        'actorpool_tool_decisions_total{agent="a",by="gate",decision="ask"} 1.0',
        'actorpool_tool_decisions_total{agent="a",by="human",decision="deny"} 1.0',
    ]
    assert SECRET not in page


def test_distributions_are_cumulative_and_include_their_bounds() -> None:
    """A value equal to a bound is under it; the last bucket and the count hold everything."""
    metrics = Metrics(["a"])
    metrics.notice(ended())
    metrics.notice(ended(first_token_s=None))
    found = samples(metrics)
    assert found["actorpool_turn_seconds_bucket", "a", "0.5"] == 0
    assert found["actorpool_turn_seconds_bucket", "a", "1.0"] == 2
    assert found["actorpool_turn_seconds_bucket", "a", "+Inf"] == 2
    assert found["actorpool_turn_seconds_count", "a"] == 2
    assert found["actorpool_turn_seconds_sum", "a"] == 2.0
    assert found["actorpool_turn_queue_seconds_bucket", "a", "0.05"] == 2
    assert found["actorpool_turn_queue_seconds_bucket", "a", "0.025"] == 0
    assert found["actorpool_turn_first_token_seconds_count", "a"] == 1


def test_counts_what_happens_to_actors_limits_and_tasks() -> None:
    """Every other notice has its counter; those that only tell a state have none."""
    metrics = Metrics(["a"])
    for notice in (
        TurnRefusedNotice("a", "overloaded", SECRET),
        TurnStartedNotice("a", "t1", 1, 0.0),
        ActorStartedNotice("a", "a-1", 0.1),
        ActorStoppedNotice("a", "a-1", "crashed", "ValueError"),
        AgentStateNotice("a", "degraded", "it fails"),
        ScaledNotice("a", 1, 3),
        ScaledNotice("a", 3, 2),
        LimitChangedNotice("a", "a", 8, 7),
        TasksLeakedNotice("a", "t1", 5),
        LoopBlockedNotice("a", "t1", 1.2, "m:f:1"),
        TurnMovedNotice("a", "t1", "taken_over"),
        WebhookNotice("a", "t1", "put_off"),
        ModelDecidedNotice("a", "t1", "fell_back", SECRET, SECRET),
    ):
        metrics.notice(notice)
    found = samples(metrics)
    assert found["actorpool_refusals_total", "a", "overloaded"] == 1
    assert found["actorpool_actor_starts_total", "a"] == 1
    assert found["actorpool_actor_stops_total", "a", "crashed"] == 1
    assert found["actorpool_scale_moves_total", "a", "up"] == 1
    assert found["actorpool_scale_moves_total", "a", "down"] == 1
    assert found["actorpool_limit_changes_total", "a", "down"] == 1
    assert found["actorpool_leaked_tasks_total", "a"] == 5
    assert found["actorpool_loop_blocked_total", "a"] == 1
    assert found["actorpool_turns_moved_total", "a", "taken_over"] == 1
    assert found["actorpool_webhooks_total", "a", "put_off"] == 1
    assert found["actorpool_model_decisions_total", "a", "fell_back"] == 1


def test_an_agent_that_is_not_configured_makes_no_series() -> None:
    """The number of series is bounded by the agents given, whatever is told."""
    metrics = Metrics(["a"])
    metrics.notice(ended(agent="stranger"))
    metrics.notice(TurnRefusedNotice("stranger", "overloaded", "t"))
    assert not [key for key in samples(metrics) if "stranger" in key]


def test_tripped_breakers_are_read_at_the_scrape() -> None:
    """By agent: a breaker's name, which holds an address, is not on the page."""
    metrics = Metrics(["a"])
    tripped = 2
    metrics.watch_breakers("a", lambda: tripped)
    metrics.watch_tools("a", lambda: tripped)
    names = [f"actorpool_{what}_breakers_tripped" for what in ("model", "tool")]
    assert [samples(metrics)[name, "a"] for name in names] == [2, 2]
    tripped = 0
    assert [samples(metrics)[name, "a"] for name in names] == [0, 0]


def test_gauges_are_read_at_the_scrape() -> None:
    """Actors, queue and limit are those of the moment; before a pool is watched there are none."""
    metrics = Metrics(["a"])
    assert not [key for key in samples(metrics) if key[0] == "actorpool_queue_turns"]
    queued = 4
    metrics.watch(lambda: pool_stats(queued=queued))
    assert samples(metrics)["actorpool_queue_turns", "a"] == 4
    queued = 5
    found = samples(metrics)
    assert found["actorpool_queue_turns", "a"] == 5
    assert found["actorpool_queue_oldest_seconds", "a"] == 1.5
    assert found["actorpool_queue_estimate_seconds", "a"] == 2.5
    assert found["actorpool_actors", "a", "busy"] == 2
    assert found["actorpool_actors", "a", "starting"] == 3
    assert found["actorpool_limit", "a"] == 8
    assert found["actorpool_limit_held", "a"] == 2
    assert found["actorpool_agent_degraded", "a"] == 1
    assert found["actorpool_turns_unfinished",] == 7
    assert found["actorpool_sessions",] == 9
    assert found["actorpool_replicas",] == 1


def test_two_pools_never_meet() -> None:
    """What one pool's metrics count is not on the other's page."""
    one, other = Metrics(["a"]), Metrics(["a"])
    one.notice(ended())
    assert samples(one)["actorpool_turn_seconds_count", "a"] == 1
    assert samples(other)["actorpool_turn_seconds_count", "a"] == 0


def test_the_page_holds_no_tenant_session_or_text() -> None:
    """Nothing that a caller said or is called is on the page; the process's own metrics are."""
    metrics = Metrics(["a"])
    metrics.watch(pool_stats)
    metrics.notice(ended())
    metrics.notice(TurnRefusedNotice("a", "overloaded", SECRET))
    page, _ = metrics.page()
    assert SECRET.encode() not in page
    assert b"process_open_fds" in page


def test_open_metrics_for_those_who_accept_it() -> None:
    """The Accept header chooses the format, the text format being what everybody gets."""
    metrics = Metrics(["a"])
    page, content_type = metrics.page("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")
    _, content_type = metrics.page("*/*")
    assert content_type.startswith("text/plain")


async def test_samples_how_late_the_loop_is() -> None:
    """One timer samples at once and every half second until it is stopped."""
    metrics = Metrics(["a"])
    metrics.start()
    await asyncio.sleep(4.5 * LAG_INTERVAL_S)
    metrics.stop()
    await asyncio.sleep(10 * LAG_INTERVAL_S)
    found = samples(metrics)
    assert found["actorpool_loop_lag_seconds_count",] == 5
    assert found["actorpool_loop_lag_seconds_bucket", "0.001"] == 5


async def test_starting_again_leaves_one_timer() -> None:
    """A second start replaces the first timer."""
    metrics = Metrics(["a"])
    metrics.start()
    metrics.start()
    await asyncio.sleep(1.5 * LAG_INTERVAL_S)
    metrics.stop()
    assert samples(metrics)["actorpool_loop_lag_seconds_count",] == 3
