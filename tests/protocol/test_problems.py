"""Errors become problems: one table, nothing of an exception's own text."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from pool import errors
from pool.turn import State, Turn, TurnError, TurnRequest
from protocol import problems
from protocol.problems import (
    STATUS,
    FieldError,
    InvalidFields,
    MethodNotAllowed,
    Problem,
    problem_of,
    problem_of_turn,
    retry_after,
)


def _all_errors() -> list[type[errors.PoolError]]:
    found: list[type[errors.PoolError]] = []
    todo = [errors.PoolError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_every_code_has_a_status_and_a_title(kind: type[errors.PoolError]) -> None:
    """No error of the engine or of a door is without its row in the table."""
    assert kind.code in STATUS
    assert problems.problem(kind.code, "", request_id="").title != "The request failed"


def test_an_error_keeps_what_is_for_callers() -> None:
    """Detail, turn, retry and the exact time to wait go over the wire."""
    error = errors.Overloaded("full", retry_after_s=2.5, turn_id="t")
    said = problem_of(error, request_id="r")
    assert (said.status, said.code, said.detail, said.retryable) == (
        503,
        "overloaded",
        "full",
        True,
    )
    assert (said.turn_id, said.retry_after_s, said.request_id) == ("t", 2.5, "r")


def test_a_foreign_error_says_nothing() -> None:
    """What is no error of ours is `internal`, and its text stays here."""
    said = problem_of(ValueError("hunter2"), request_id="r")
    assert (said.status, said.code) == (500, "internal")
    assert "hunter2" not in said.detail


def test_wrong_fields_are_listed() -> None:
    """An `InvalidRequest` names its fields."""
    several = InvalidFields("no", [FieldError("a", "x"), FieldError("b", "y")])
    assert problem_of(several, request_id="").errors == several.errors
    one = problem_of(errors.InvalidRequest("no", field="a"), request_id="")
    assert one.errors == [FieldError("a", "no")]
    assert problem_of(errors.InvalidRequest("no"), request_id="").errors is UNSET


def test_some_errors_have_a_status_of_their_own() -> None:
    """405 and 408 are invalid requests with another status."""
    said = problem_of(MethodNotAllowed(["GET"]), request_id="")
    assert (said.status, said.code) == (405, "invalid_request")
    assert problem_of(problems.BodyTimeout("late"), request_id="").status == 408


@pytest.mark.parametrize(
    ("state", "error", "expected"),
    [
        ("failed", TurnError("agent_failed", "no"), (502, "agent_failed", False)),
        ("failed", TurnError("dead_letter", "no"), (502, "dead_letter", False)),
        ("failed", TurnError("store_unavailable", "no", True), (503, "store_unavailable", True)),
        ("failed", TurnError("strange", "no"), (502, "strange", False)),
        ("failed", None, (502, "agent_failed", False)),
        ("expired", None, (504, "deadline_exceeded", True)),
        ("expired", TurnError("deadline_exceeded", "no", True), (504, "deadline_exceeded", True)),
    ],
)
def test_a_turn_without_answer_is_a_problem(
    state: State, error: TurnError | None, expected: tuple[int, str, bool]
) -> None:
    """Failed is 502 or its error's status, expired 504; both name the turn."""
    said = problem_of_turn(_turn(state, error), request_id="r")
    assert said is not None
    assert (said.status, said.code, said.retryable) == expected
    assert said.turn_id == "t1"


@pytest.mark.parametrize("state", ["queued", "waiting", "completed", "cancelled", "interrupted"])
def test_every_other_turn_is_no_problem(state: State) -> None:
    """What was cancelled or interrupted is an answer."""
    assert problem_of_turn(_turn(state, None), request_id="r") is None


@pytest.mark.parametrize(
    ("seconds", "lowest", "highest"), [(0.0, 1, 3), (1.0, 1, 3), (1.2, 2, 4), (100.0, 100, 126)]
)
def test_retry_after_is_whole_rounded_up_and_jittered(
    seconds: float, lowest: int, highest: int
) -> None:
    """At least 1, never sooner than the exact time, spread for the many."""
    said = problem_of(errors.Overloaded("full", retry_after_s=seconds), request_id="")
    assert retry_after(said, lambda: 0.0) == lowest
    assert retry_after(said, lambda: 0.999_999) == highest


def test_a_budget_that_is_used_up_says_when_there_is_another() -> None:
    """402 carries the time, where it is known; a turn that was too dear has none."""
    refused = problem_of(errors.BudgetExceeded("used up", retry_after_s=90.5), request_id="")
    assert (refused.status, retry_after(refused, lambda: 0.0)) == (402, 91)
    stopped = problem_of_turn(_turn("failed", TurnError("budget_exceeded", "")), request_id="r")
    assert stopped is not None
    assert (stopped.status, retry_after(stopped, lambda: 0.0)) == (402, None)


def test_429_and_503_always_carry_retry_after() -> None:
    """Other statuses do not, unless a time is known."""
    for code, status in STATUS.items():
        said: Problem = problems.problem(code, "", request_id="")
        assert (retry_after(said, lambda: 0.5) is not None) is (status in (429, 503))


def _turn(state: State, error: TurnError | None) -> Turn:
    return Turn(
        id="t1",
        tenant="d",
        user="u",
        session_id="s",
        agent="a",
        request=TurnRequest(input="x"),
        state=state,
        error=error,
    )
