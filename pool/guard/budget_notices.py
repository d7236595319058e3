"""What is told of budgets: to the log, and to who listens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal

import structlog

from pool.guard.budget import Line, Unit
from pool.guard.prices import usd_of
from pool.observer import Notice

Outcome = Literal["alert", "warned", "cheaper", "refused"]

_SAID: Final[Mapping[Outcome, str]] = {
    "alert": "a budget is spent to a part that is told of",
    "warned": "a turn did not fit into a budget, and runs all the same",
    "cheaper": "a turn did not fit into a budget, and runs with a cheaper model",
}

_log = structlog.get_logger("pool.guard.budgets")


class BudgetNotice(Notice, frozen=True, gc=False):
    """Something about a budget: `spent` reached `percent` of the limit (`alert`), or a turn did not
    fit and was let through (`warned`), given the `cheaper` model, or `refused`.

    Amounts are tokens, or micro-USD. `subject`: in whose name; `period`: its name.
    """

    outcome: Outcome
    budget: str
    unit: Unit
    subject: str
    period: str
    spent: int
    limit: int
    percent: int


def tell(
    listener: Callable[[BudgetNotice], None] | None,
    agent: str,
    outcome: Outcome,
    line: Line,
    spent: int,
    percent: int | None = None,
) -> None:
    """Log it, unless it is told to the caller anyway, and pass it on."""
    reached = 100 * spent // line.limit if percent is None else percent
    notice = BudgetNotice(
        agent=agent,
        outcome=outcome,
        budget=line.budget.name,
        unit=line.unit,
        subject=line.subject,
        period=line.span.name,
        spent=spent,
        limit=line.limit,
        percent=reached,
    )
    if outcome != "refused":
        _log.warning(
            _SAID[outcome],
            outcome=outcome,
            budget=notice.budget,
            subject=notice.subject,
            period=notice.period,
            spent=amount(line, spent),
            limit=amount(line, line.limit),
            percent=reached,
            remedy=f"raise it, if that is meant: actorpool budgets set {notice.budget}",
        )
    if listener is not None:
        listener(notice)


def amount(line: Line, number: int) -> str:
    """An amount in words: tokens, or US dollars."""
    return f"{number} tokens" if line.unit == "tokens" else f"{usd_of(number):.6g} USD"
