"""Budgets as they are configured."""

from __future__ import annotations

from typing import Any

import pytest

from pool.errors import ConfigError
from pool.guard.budget import Budget, terms_of
from tests.support.spending import a_turn


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "set tokens, usd, or both"),
        ({"name": "no spaces"}, "budget.name"),
        ({"tokens": 0}, "tokens = 0"),
        ({"usd": 0.0000001}, "usd = 1e-07"),
        ({"usd": -1.0}, "usd = -1"),
        ({"tokens": 10, "reserve_tokens": 11}, "reserve_tokens = 11"),
        ({"tokens": 10, "reserve_tokens": 0}, "reserve_tokens = 0"),
        ({"usd": 1.0, "reserve_usd": 2.0}, "reserve_usd"),
        ({"tokens": 1, "at_limit": "cheaper"}, "model"),
        ({"tokens": 1, "model": "small"}, "model"),
        ({"tokens": 1, "at_limit": "cheaper", "model": "m", "period": "turn"}, "keeps its model"),
        ({"tokens": 1, "at_limit": "warn", "period": "turn"}, "write refuse"),
        ({"tokens": 1, "of": "acme"}, "leave it out"),
        ({"tokens": 1, "scope": "user", "of": "ann"}, "tenant/user"),
        ({"tokens": 1, "alerts": (0, 50)}, "alerts"),
        ({"tokens": 1, "alerts": (101,)}, "alerts"),
    ],
)
def test_a_mistake_is_named(options: dict[str, Any], said: str) -> None:
    """Option, value and remedy are said before anything runs."""
    with pytest.raises(ConfigError, match=said):
        Budget(**{"name": "b"} | options)


@pytest.mark.parametrize(
    ("options", "max_tokens", "tokens", "micro"),
    [
        ({"tokens": 1_000_000, "usd": 100.0}, None, 4_000, 10_000),
        ({"tokens": 1_000, "usd": 0.01}, None, 100, 1_000),
        ({"tokens": 5, "usd": 0.000001}, None, 1, 1),
        ({"tokens": 1_000, "usd": 1.0}, 700, 700, 10_000),
        ({"tokens": 1_000, "usd": 1.0}, 5_000, 1_000, 10_000),
        ({"tokens": 9, "reserve_tokens": 8, "usd": 1.0, "reserve_usd": 0.5}, 2, 8, 500_000),
    ],
)
def test_what_is_set_aside_is_configured_or_guessed(
    options: dict[str, Any], max_tokens: int | None, tokens: int, micro: int
) -> None:
    """What was configured, else the answer's limit, else a little; never more than the limit."""
    budget = Budget(name="b", **options)

    assert budget.estimate("tokens", max_tokens) == tokens
    assert budget.estimate("micro", max_tokens) == micro


def test_a_turn_is_under_all_limits_that_are_about_it() -> None:
    """Tokens and money are two; a budget of somebody else is none."""
    budgets = [
        Budget(name="all", tokens=10, usd=1.0),
        Budget(name="acme", scope="tenant", of="acme", tokens=10),
        Budget(name="other", scope="tenant", of="other", tokens=10),
        Budget(name="one", period="turn", tokens=10),
    ]

    lines = terms_of(budgets, a_turn(), None).lines

    assert [(line.budget.name, line.unit) for line in lines] == [
        ("all", "tokens"),
        ("all", "micro"),
        ("acme", "tokens"),
    ]
    assert lines[0].key == "budget:all:all:2026-11:tokens"
    assert lines[2].key == "budget:acme:acme:2026-11:tokens"


def test_other_amounts_have_another_mark() -> None:
    """So a process sees that another one has set aside something else."""
    same, small, large = (
        terms_of([Budget(name="b", tokens=100, reserve_tokens=each)], a_turn(), None).mark
        for each in (5, 5, 6)
    )

    assert same == small != large
