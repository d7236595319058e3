"""The rules about tools: what may be written, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pool.errors import ConfigError
from pool.guard.tool_rules import PATTERN_CHARS, ApprovalRule, ToolRules, by_risk


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        ({"roles": {"user": "search"}}, "roles.user"),
        ({"roles": {"": ["search"]}}, "roles."),
        ({"agents": {"a": [""]}}, "agents.a"),
        ({"agents": {"a": ["x" * (PATTERN_CHARS + 1)]}}, "agents.a"),
        ({"risks": {"delete": "danger"}}, "risks.delete"),
        ({"risks": {"": "read"}}, "risks"),
        ({"approvals": [ApprovalRule(then="perhaps")]}, "approvals.0.then"),  # type: ignore[arg-type]
        ({"approvals": [ApprovalRule(then="ask", risk=("bad",))]}, "approvals.0.risk"),  # type: ignore[arg-type]
        ({"approvals": [ApprovalRule(then="ask", roles="user")]}, "approvals.0.roles"),
        ({"approvals": [ApprovalRule(then="ask", tools=("",))]}, "approvals.0.tools"),
        ({"approvals": [ApprovalRule(then="ask", agents="a")]}, "approvals.0.agents"),
        (
            {"approvals": [ApprovalRule(then="ask", arguments={"path": "*" * 300})]},
            "approvals.0.arguments.path",
        ),
        (
            {
                "approvals": [
                    ApprovalRule(then="ask"),
                    ApprovalRule(then="allow", deciders=["boss"]),
                ]
            },
            "approvals.1.deciders",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: Any, option: str) -> None:
    """The error names the option, down to the rule's place."""
    with pytest.raises(ConfigError) as caught:
        ToolRules(**wrong)
    assert caught.value.option == option


def test_a_misspelt_part_of_a_rule_is_refused() -> None:
    """A rule that came from a file with a word nobody knows would fit more than was meant."""
    with pytest.raises(msgspec.ValidationError, match="tool"):
        msgspec.convert({"approvals": [{"then": "allow", "tool": ["search"]}]}, ToolRules)


def test_the_defaults_by_risk() -> None:
    """Reading and writing is allowed, about what is dangerous a human is asked."""
    assert [by_risk("read"), by_risk("write"), by_risk("dangerous")] == ["allow", "allow", "ask"]
