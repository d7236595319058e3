from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from pool.guard.privacy import Privacy
from pool.guard.privacy_config import PrivacyConfig
from pool.observer import (
    ActorStartedNotice,
    ActorStoppedNotice,
    AgentStateNotice,
    LimitChangedNotice,
    LoopBlockedNotice,
    Notice,
    ScaledNotice,
    TasksLeakedNotice,
    TurnEndedNotice,
    TurnRefusedNotice,
    TurnRepeatedNotice,
    TurnStartedNotice,
)
from pool.telemetry.advice import REFUSAL_INTERVAL_S, Refusals
from pool.telemetry.lines import LineWriter
from pool.telemetry.logs import Logs
from pool.turn import State, Turn, TurnError, TurnRequest, Usage

SECRET = "canary-51c0"

EVERYTHING_ELSE = (
    TurnRefusedNotice("a", "overloaded", "t"),
    TurnRepeatedNotice("a", "t1", 2),
    ActorStartedNotice("a", "a-1", 0.1),
    ActorStoppedNotice("a", "a-1", "crashed", "ValueError"),
    ActorStoppedNotice("a", "a-1", "abandoned"),
    ActorStoppedNotice("a", "a-1", "failed", "OSError"),
    ActorStoppedNotice("a", "a-1", "retired"),
    AgentStateNotice("a", "degraded", "5 restarts in 30 s"),
    AgentStateNotice("a", "ready", ""),
    ScaledNotice("a", 1, 3),
    LimitChangedNotice("a", "a", 8, 7),
    LimitChangedNotice("a", "a", 7, 8),
    TasksLeakedNotice("a", "t1", 5),
)


@pytest.fixture(autouse=True)
def _unconfigured() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def ended(state: State = "completed", error: TurnError | None = None) -> TurnEndedNotice:
    """A turn's end, full of what must not be logged."""
    turn = Turn(
        id="t1",
        tenant="acme",
        user="u",
        session_id="s1",
        agent="a",
        request=TurnRequest(input=SECRET, metadata={SECRET: SECRET}),
        output=SECRET,
        state=state,
        error=error,
        attempt=1,
        queued_s=0.0312345678,
        run_s=0.97,
        usage=Usage(input_tokens=10, output_tokens=3),
    )
    return TurnEndedNotice("a", turn, "r1", 0.25)


def written(*notices: Notice, level: Any = "info") -> list[dict[str, Any]]:
    """The lines that a JSON log makes of notices."""
    stream = BytesIO()
    logs = Logs(LineWriter(stream), level=level)
    for notice in notices:
        logs.notice(notice)
    return [msgspec.json.decode(line) for line in stream.getvalue().splitlines()]


def test_names_that_callers_chose_are_redacted_if_it_is_wanted() -> None:
    """They may look like a card; what is ours stays as it is."""
    notice = ended()
    notice.turn.session_id = "4111111111111111"
    stream = BytesIO()
    Logs(LineWriter(stream), redact=Privacy(PrivacyConfig(default="logs")).logs).notice(notice)
    line = msgspec.json.decode(stream.getvalue())
    assert (line["session_id"], line["turn_id"], line["tenant"]) == ("[card-1]", "t1", "acme")


def told(*notices: Notice) -> list[dict[str, Any]]:
    """What notices become as ordinary lines of structlog."""
    logs = Logs()
    with capture_logs() as lines:
        for notice in notices:
            logs.notice(notice)
    return [dict(line) for line in lines]


def test_a_turn_is_one_line() -> None:
    """The line says what became of the turn, how long it took and what it used."""
    (line,) = written(ended())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "event": "turn ended",
        "agent": "a",
        "state": "completed",
        "turn_id": "t1",
        "session_id": "s1",
        "request_id": "r1",
        "tenant": "acme",
        "attempt": 1,
        "queued_s": 0.031235,
        "run_s": 0.97,
        "first_token_s": 0.25,
        "input_tokens": 10,
        "output_tokens": 3,
    }


def test_how_an_answer_came_about_is_in_its_line() -> None:
    """One that was kept, or is the last resort, does not look like any other."""
    notice = ended()
    notice.turn.marks = ("degraded",)
    (line,) = written(notice)
    assert line["marks"] == ["degraded"]


def test_a_failed_turn_is_a_warning_with_its_code() -> None:
    """What a turn failed of is its code; the detail stays with the caller."""
    (line,) = written(ended("failed", TurnError("agent_failed", SECRET)))
    assert (line["level"], line["error"]) == ("warning", "agent_failed")


@pytest.mark.parametrize(("level", "lines"), [("info", 2), ("warning", 1), ("error", 0)])
def test_the_level_holds_for_turns_too(level: str, lines: int) -> None:
    """At `warning` only failed turns have a line, at `error` none."""
    failed = ended("failed", TurnError("agent_failed", "no"))
    assert len(written(ended(), failed, level=level)) == lines


def test_embedded_a_turn_is_an_ordinary_line() -> None:
    """Without a writer the program's own structlog gets the line, without what it adds itself."""
    (line,) = told(ended())
    assert (line["event"], line["log_level"], line["turn_id"]) == ("turn ended", "info", "t1")
    assert "timestamp" not in line
    assert "error" not in line


def test_every_warning_says_what_to_do() -> None:
    """What an operator is warned of names the agent and a remedy."""
    warnings = [
        line for line in told(*EVERYTHING_ELSE) if line["log_level"] in ("warning", "error")
    ]
    assert [line["event"] for line in warnings] == [
        "turns are refused",
        "turn is run again",
        "actor crashed",
        "actor abandoned",
        "actor failed to open",
        "agent is degraded: its turns are refused",
        "concurrency limit lowered",
        "turn left tasks behind; they were cancelled",
    ]
    assert all(line["agent"] == "a" and line["remedy"] for line in warnings)


def test_what_goes_well_is_no_warning() -> None:
    """A first start is no line at all, a blocked loop the engine tells itself."""
    notices = (TurnStartedNotice("a", "t1", 1, 0.0), LoopBlockedNotice("a", "t1", 1.2, "m:f:1"))
    assert told(*notices) == []


@pytest.mark.parametrize(
    ("code", "remedy"), [("budget_exceeded", "actorpool budgets"), ("rate_limited", "[limits]")]
)
def test_who_is_refused_for_what_it_costs_is_told_with_a_remedy(code: str, remedy: str) -> None:
    """The operator learns which command, or which setting, changes that."""
    (line,) = told(TurnRefusedNotice("a", code, "t"))
    assert remedy in line["remedy"]


def test_refusals_do_not_flood() -> None:
    """One line per agent and reason in ten seconds; the next one counts those in between."""
    now = 100.0
    refusals = Refusals(clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(50):
            refusals.tell(TurnRefusedNotice("a", "overloaded", "t"))
        refusals.tell(TurnRefusedNotice("a", "draining", "t"))
        now += REFUSAL_INTERVAL_S
        refusals.tell(TurnRefusedNotice("a", "overloaded", "t"))
    assert [(line["reason"], line["refused"]) for line in lines] == [
        ("overloaded", 1),
        ("draining", 1),
        ("overloaded", 50),
    ]


def test_no_line_holds_what_was_said() -> None:
    """Input, output, metadata and details reach neither kind of line."""
    notices = (ended(), ended("failed", TurnError("agent_failed", SECRET)))
    assert SECRET not in repr(written(*notices))
    assert SECRET not in repr(told(*notices))


def test_importing_configures_nothing() -> None:
    """Neither the import nor an observer touches structlog's or logging's configuration."""
    program = (
        "import logging, structlog\n"
        "from pool.telemetry.logs import Logs\n"
        "import pool.telemetry.metrics\n"
        "Logs()\n"
        "assert not structlog.is_configured()\n"
        "assert not logging.getLogger().handlers\n"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=30)
