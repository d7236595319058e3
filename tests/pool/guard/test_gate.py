"""The rules about tools as a gate: who may what, how risky it is, when a human decides."""

from __future__ import annotations

import random
import time
from fnmatch import fnmatchcase
from typing import Any

import pytest

from pool.agent import ALLOW, Decision, ToolCall
from pool.errors import AgentFailed
from pool.guard.gate import ARGUMENT_CHARS, RulesGate, gate_of, stricter
from pool.guard.tool_rules import ApprovalRule, ToolRules
from pool.turn import ANYONE, Principal, Risk


def who(*roles: str) -> Principal:
    """Somebody with these roles."""
    return Principal("default", "ann", roles)


def said(
    rules: ToolRules,
    tool: str,
    *roles: str,
    agent: str = "helper",
    risk: Risk | None = None,
    **arguments: Any,
) -> str:
    """What the rules do about a call."""
    call = ToolCall("c1", tool, arguments, risk)
    return RulesGate(rules, agent)(who(*(roles or ("user",))), call).action


def ask(**rule: Any) -> ApprovalRule:
    """A rule that asks."""
    return ApprovalRule(then="ask", **rule)


def allow(**rule: Any) -> ApprovalRule:
    """A rule that allows."""
    return ApprovalRule(then="allow", **rule)


def deny(**rule: Any) -> ApprovalRule:
    """A rule that denies."""
    return ApprovalRule(then="deny", **rule)


# --- lists


def test_without_rules_only_what_is_dangerous_asks() -> None:
    """A tool whose author says nothing of it is `write`, and allowed; a dangerous one asks."""
    gate = gate_of(None, "a", None)
    assert gate(ANYONE, ToolCall("c1", "search")) == Decision("allow", risk="write")
    assert gate(ANYONE, ToolCall("c1", "search", risk="read")) == Decision("allow", risk="read")
    assert gate(ANYONE, ToolCall("c1", "drop", risk="dangerous")) == Decision(
        "ask", "a human decides about dangerous calls", "dangerous"
    )


def test_one_role_that_may_is_enough_and_all_else_is_denied() -> None:
    """Once there are lists, what is on none of a caller's is denied; so is a role without list."""
    rules = ToolRules(roles={"user": ["search", "read_*"], "editor": ["write_*"]})
    assert said(rules, "read_page") == "allow"
    assert said(rules, "write_page") == "deny"
    assert said(rules, "write_page", "user", "editor") == "allow"
    assert said(rules, "search", "admin") == "deny"
    assert RulesGate(rules, "a")(who(), ToolCall("c1", "search")) == Decision(
        "deny", "search is not among the tools that the caller's roles may use", "write"
    )


def test_roles_without_a_list_have_that_of_the_star() -> None:
    """`*` is for roles that have no list of their own, and adds nothing to those that have."""
    rules = ToolRules(roles={"*": ["search"], "guest": ["help"]})
    assert said(rules, "search", "user") == "allow"
    assert said(rules, "search", "guest") == "deny"
    assert said(rules, "search", "guest", "user") == "allow"


def test_an_agents_list_cuts_what_its_caller_may() -> None:
    """Nobody may through an agent what the agent may not, nor the agent what its caller may not."""
    rules = ToolRules(
        roles={"user": ["search"], "admin": ["*"]}, agents={"helper": ["search", "mail"]}
    )
    assert said(rules, "search") == "allow"
    assert said(rules, "mail") == "deny"
    assert said(rules, "mail", "admin") == "allow"
    assert said(rules, "drop", "admin") == "deny"
    assert said(rules, "search", "admin", agent="other") == "deny"
    call = ToolCall("c1", "drop")
    assert RulesGate(rules, "helper")(who("admin"), call).reason == (
        "drop is not among the tools that agent helper may call"
    )


def test_agents_without_a_list_have_that_of_the_star() -> None:
    """`*` is for all other agents, and adds nothing to one that has a list."""
    rules = ToolRules(agents={"*": ["search"], "helper": ["mail"]})
    assert said(rules, "search", agent="other") == "allow"
    assert said(rules, "search", agent="helper") == "deny"


def test_an_empty_list_allows_nothing() -> None:
    """It is a list, and nothing is on it."""
    assert said(ToolRules(roles={"user": []}), "search") == "deny"
    assert said(ToolRules(agents={"helper": []}), "search") == "deny"


def test_a_list_goes_before_every_rule() -> None:
    """No approval rule allows what is on no list, and none asks a human to widen it."""
    for rule in (allow(), ask()):
        rules = ToolRules(roles={"user": ["search"]}, approvals=[rule])
        assert said(rules, "drop") == "deny"


def test_names_are_compared_as_they_are_written() -> None:
    """Capitals, beginnings and line ends make another name."""
    rules = ToolRules(roles={"user": ["search"]})
    for name in ("Search", "search2", "a search", "search\n", ""):
        assert said(rules, name) == "deny"


# --- risk


def test_the_first_risk_that_fits_counts_whatever_the_author_says() -> None:
    """Up or down; a tool that no pattern fits is what its author says, or `write`."""
    rules = ToolRules(risks={"read_secret": "dangerous", "read_*": "read", "wipe": "dangerous"})
    gate = RulesGate(rules, "a")
    expected: list[tuple[str, Risk | None, Risk]] = [
        ("read_secret", "read", "dangerous"),
        ("read_page", "dangerous", "read"),
        ("wipe", None, "dangerous"),
        ("other", "dangerous", "dangerous"),
        ("other", None, "write"),
    ]
    for tool, declared, risk in expected:
        assert gate(ANYONE, ToolCall("c1", tool, risk=declared)).risk == risk


# --- approvals


def test_the_first_rule_that_fits_decides() -> None:
    """Later ones are not looked at; without one that fits the risk decides."""
    rules = ToolRules(
        approvals=[
            allow(tools=["drop_test*"]),
            deny(tools=["drop_*"], reason="not this way"),
            ask(risk=["write"], agents=["help*"], deciders=["finance"]),
        ]
    )
    assert said(rules, "drop_test_table", risk="dangerous") == "allow"
    assert said(rules, "drop_table") == "deny"
    assert said(rules, "pay") == "ask"
    assert said(rules, "pay", agent="other") == "allow"
    assert said(rules, "look", risk="read") == "allow"
    assert said(rules, "wipe", risk="dangerous") == "ask"
    gate = RulesGate(rules, "helper")
    assert gate(ANYONE, ToolCall("c1", "drop_table")).reason == "not this way"
    assert gate(ANYONE, ToolCall("c1", "pay")) == Decision(
        "ask", "a rule of this pool wants a human to decide", "write", ("finance",)
    )


def test_a_rule_may_be_for_some_callers() -> None:
    """It fits if the caller has one of its roles."""
    rules = ToolRules(approvals=[allow(roles=["admin", "operator"]), ask()])
    assert said(rules, "pay", "user", "operator") == "allow"
    assert said(rules, "pay", "user") == "ask"


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        ({"path": "/srv/x"}, "allow"),
        ({"path": "/srv/../etc/passwd"}, "deny"),
        ({"path": "/etc/passwd"}, "ask"),
        ({"path": "x\n/srv/x"}, "ask"),
        ({"path": "/srv/a\nb"}, "allow"),
        ({"path": ["/srv/x"]}, "ask"),
        ({"other": "/srv/x"}, "ask"),
        ({}, "ask"),
    ],
)
def test_rules_look_at_arguments(arguments: Any, action: str) -> None:
    """A pattern fits the whole text of its argument; one that is left out fits none."""
    rules = ToolRules(
        approvals=[
            deny(tools=["write"], arguments={"path": "*..*"}),
            allow(tools=["write"], arguments={"path": "/srv/*"}),
            ask(tools=["write"]),
        ]
    )
    assert said(rules, "write", **arguments) == action


@pytest.mark.parametrize(
    ("euro", "action"),
    [(7, "allow"), (42, "allow"), (100, "ask"), (-5, "ask"), (7.5, "ask"), (True, "ask")],
)
def test_arguments_that_are_no_text_are_seen_as_json(euro: object, action: str) -> None:
    """Numbers are their digits, so that small ones can be let through."""
    rules = ToolRules(
        approvals=[
            allow(arguments={"euro": "[0-9]"}),
            allow(arguments={"euro": "[0-9][0-9]"}),
            ask(),
        ]
    )
    assert said(rules, "pay", euro=euro) == action


def test_all_arguments_of_a_rule_must_fit() -> None:
    """One that does not is enough for the rule not to."""
    rules = ToolRules(approvals=[allow(arguments={"a": "1", "b": '{"x":[[]1,2[]]}'}), ask()])
    assert said(rules, "t", a=1, b={"x": [1, 2]}) == "allow"
    assert said(rules, "t", a=1, b={"x": [1, 3]}) == "ask"


def test_an_argument_too_long_to_be_looked_at_fits_only_what_is_strict() -> None:
    """It slips past no rule that asks or denies, and through none that allows."""
    long = "/srv/" + "x" * ARGUMENT_CHARS
    allowing = ToolRules(approvals=[allow(arguments={"path": "/srv/*"}), ask()])
    denying = ToolRules(approvals=[deny(arguments={"path": "*..*"})])
    assert said(allowing, "write", path=long) == "ask"
    assert said(denying, "write", path=long) == "deny"


def test_a_hostile_argument_costs_little() -> None:
    """The worst pattern on the worst text is done within a second, times twenty."""
    rules = ToolRules(approvals=[deny(arguments={"a": "*a" * 99 + "*b"})])
    begun = time.process_time()
    assert said(rules, "t", a="a" * ARGUMENT_CHARS) == "allow"
    assert time.process_time() - begun < 1


def test_arguments_that_are_no_data_fail_the_agent() -> None:
    """What cannot be looked at is not let through."""
    rules = ToolRules(approvals=[deny(arguments={"a": "x"})])
    with pytest.raises(AgentFailed, match="cannot be written as JSON"):
        said(rules, "t", a=object())


# --- an agent's own gate


async def test_the_stricter_of_both_gates_counts() -> None:
    """Of the rules and the agent's own gate, which may be async; it is not asked in vain."""
    order = ["allow", "ask", "deny"]
    asked: list[str] = []
    for ruled in order:
        for own in order:
            word: Any = own

            def plain(principal: Principal, call: ToolCall, word: Any = word) -> Decision:
                asked.append(word)
                return Decision(word)

            async def later(principal: Principal, call: ToolCall, word: Any = word) -> Decision:
                return Decision(word)

            then: Any = ruled
            rules = ToolRules(approvals=[ApprovalRule(then=then)])
            strictest = max(ruled, own, key=order.index)
            call = ToolCall("c1", "t")
            both: Any = gate_of(rules, "a", plain)(ANYONE, call)
            assert both.action == strictest
            both = gate_of(rules, "a", later)(ANYONE, call)
            assert (both if ruled == "deny" else await both).action == strictest
    assert len(asked) == 6


def test_what_both_ask_is_one_question() -> None:
    """With the higher risk, and those who may decide for both; the rules' word goes first."""

    def asks(risk: Risk, *deciders: str, reason: str = "") -> Decision:
        return Decision("ask", reason, risk, deciders)

    assert stricter(asks("write", reason="r"), asks("dangerous", reason="o")) == asks(
        "dangerous", reason="r"
    )
    assert stricter(asks("write", "a", "b"), asks("read", "b", "c")) == asks("write", "b")
    assert stricter(asks("write", "a"), asks("read", "c")) == asks("write", "a")
    assert stricter(asks("write"), asks("read", "c")) == asks("write", "c")
    assert stricter(Decision("allow", risk="dangerous"), asks("write", "c", reason="o")) == asks(
        "dangerous", "c", reason="o"
    )
    assert stricter(asks("read", "a"), ALLOW) == asks("read", "a")


# --- as a whole


def test_rules_are_what_their_words_say() -> None:
    """Compared with the rules read word by word, for ten thousand calls of random rules."""
    dice = random.Random(4)
    tools = ["read_a", "read_b", "write_a", "drop"]
    patterns = [*tools, "read_*", "*_a", "*"]
    roles = ["user", "admin", "guest"]

    def some(words: list[str]) -> list[str]:
        return dice.sample(words, dice.randint(0, 2))

    def lists(names: list[str]) -> dict[str, list[str]]:
        return {name: some(patterns) for name in some([*names, "*"])}

    def rule() -> ApprovalRule:
        word: Any = dice.choice(["allow", "ask", "deny"])
        risk: Any = some(["read", "write", "dangerous"])
        arguments = {"n": dice.choice(["1", "[12]", "*"])} if dice.random() < 0.5 else {}
        return ApprovalRule(
            then=word,
            risk=risk,
            roles=some(roles),
            agents=some(["a", "b", "*"]),
            tools=some(patterns),
            arguments=arguments,
        )

    for _ in range(500):
        risks: Any = {dice.choice(patterns): dice.choice(["read", "dangerous"])}
        rules = ToolRules(
            roles=lists(roles),
            agents=lists(["a", "b"]),
            risks=risks,
            approvals=[rule() for _ in range(dice.randint(0, 3))],
        )
        agent = dice.choice("ab")
        gate = RulesGate(rules, agent)
        for _ in range(20):
            caller = tuple(some(roles))
            given = {"n": dice.randint(1, 3)} if dice.random() < 0.8 else {}
            call = ToolCall("c1", dice.choice(tools), given)
            assert gate(who(*caller), call).action == _by_the_words(rules, agent, caller, call)


def _by_the_words(rules: ToolRules, agent: str, roles: tuple[str, ...], call: ToolCall) -> str:
    def one_of(patterns: Any) -> bool:
        return any(fnmatchcase(call.name, pattern) for pattern in patterns)

    if rules.agents and not one_of(rules.agents.get(agent, rules.agents.get("*", []))):
        return "deny"
    if rules.roles and not any(
        one_of(rules.roles.get(role, rules.roles.get("*", []))) for role in roles
    ):
        return "deny"
    risk = next((r for p, r in rules.risks.items() if fnmatchcase(call.name, p)), "write")
    for rule in rules.approvals:
        if (
            (not rule.risk or risk in rule.risk)
            and (not rule.roles or set(roles) & set(rule.roles))
            and (not rule.agents or any(fnmatchcase(agent, p) for p in rule.agents))
            and (not rule.tools or one_of(rule.tools))
            and all(
                name in call.arguments and fnmatchcase(str(call.arguments[name]), pattern)
                for name, pattern in rule.arguments.items()
            )
        ):
            return rule.then
    return "ask" if risk == "dangerous" else "allow"
