"""Which model answers a turn."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pool.agent import TurnInput
from pool.agents.routing import Choice, Route, Routing
from pool.errors import AgentFailed, ConfigError
from pool.turn import Principal, TurnRequest
from tests.support.context import RecordingContext

ASKED = {"priority": "batch", "complexity": "low"}
PLANS = {"acme": "gold"}


def chosen(
    *routes: Route, text: str = "hello", hook: Any = None, tenant: str = "acme", **ctx: Any
) -> Choice | None:
    """What the rules choose for one turn."""
    request = TurnRequest(input=text, **(ASKED if "request" not in ctx else ctx.pop("request")))
    context = RecordingContext(request=request, principal=Principal(tenant), **ctx)
    return Routing(routes, hook, PLANS).choose(TurnInput(text), context)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({}, True),
        ({"agent": "agent"}, True),
        ({"agent": "other"}, False),
        ({"priority": "batch"}, True),
        ({"priority": "interactive"}, False),
        ({"plan": "gold"}, True),
        ({"plan": "free"}, False),
        ({"complexity": "low"}, True),
        ({"complexity": "high"}, False),
        ({"min_chars": 5}, True),
        ({"min_chars": 6}, False),
        ({"max_chars": 5}, True),
        ({"max_chars": 4}, False),
        ({"priority": "batch", "plan": "gold", "complexity": "low", "max_chars": 9}, True),
        ({"priority": "batch", "plan": "gold", "complexity": "high", "max_chars": 9}, False),
    ],
    ids=str,
)
def test_rule_fits_if_all_of_it_does(rule, fits):
    """What a rule does not name may be anything."""
    expected = Choice("routed", "openai:small", "route 1 fits") if fits else None

    assert chosen(Route(model="openai:small", **rule)) == expected


def test_first_rule_that_fits_counts():
    """Later rules are for what is left."""
    rules = [Route(model="a", plan="free"), Route(model="b", plan="gold"), Route(model="c")]

    assert chosen(*rules) == Choice("routed", "b", "route 2 fits")
    assert chosen(*rules, tenant="nobody") == Choice("routed", "c", "route 3 fits")


def test_hint_that_was_not_given_fits_no_rule_that_asks_for_one():
    """A turn without a hint, of a tenant without a plan, is an ordinary one."""
    rules = [Route(model="a", complexity="low"), Route(model="b", plan="gold")]

    assert chosen(*rules, tenant="nobody", request={}) is None


def test_hook_goes_before_the_rules():
    """What it names counts; by saying nothing it leaves the turn to them."""
    rule = Route(model="ruled")

    def hook(turn: TurnInput, ctx: Any) -> str | None:
        return "hooked" if turn.input == "mine" and ctx.principal.tenant == "acme" else None

    assert chosen(rule, text="mine", hook=hook) == Choice("routed", "hooked", "the hook chose it")
    assert chosen(rule, hook=hook) == Choice("routed", "ruled", "route 1 fits")


def test_budget_goes_before_all_others():
    """Neither hook nor rule makes a turn dearer that a budget wants cheaper."""
    choice = chosen(Route(model="ruled"), hook=lambda *_: "hooked", model="cheap")

    assert choice == Choice("budget", "cheap", "a budget wants a cheaper model")


@pytest.mark.parametrize("said", [42, "", b"openai:x"], ids=repr)
def test_hook_that_names_no_model_fails_the_turn(said):
    """What it returned is named by its type, not by its value."""
    with pytest.raises(AgentFailed, match=f"returned {type(said).__name__}; it returns the name"):
        chosen(hook=lambda *_: said)


@pytest.mark.parametrize(
    ("rule", "option"),
    [
        ({"model": ""}, "routes.model"),
        ({"model": "x", "min_chars": 3, "max_chars": 2}, "routes.max_chars"),
    ],
    ids=str,
)
def test_rule_that_cannot_be_used_is_named(rule, option):
    """A mistake is found when the rule is made."""
    with pytest.raises(ConfigError) as refused:
        Route(**rule)

    assert refused.value.option == option


def test_unknown_part_of_a_rule_is_refused():
    """A rule from a file that says something unknown would be for other turns than was meant."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"model": "x", "prioritiy": "batch"}, Route)
