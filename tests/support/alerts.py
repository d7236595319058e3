"""What is told of budgets."""

from __future__ import annotations

from typing import Any

from pool.guard.budget_notices import BudgetNotice


def budget_notice(**changes: Any) -> BudgetNotice:
    """A tenant has spent half of its budget; or something else."""
    usual: dict[str, Any] = {
        "agent": "a",
        "outcome": "alert",
        "budget": "daily",
        "unit": "tokens",
        "subject": "tenant:acme",
        "period": "day",
        "spent": 50,
        "limit": 100,
        "percent": 50,
    }
    return BudgetNotice(**{**usual, **changes})
