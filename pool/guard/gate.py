"""The rules about tools as the gate of an agent."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import Struct

from pool.agent import Decision, Gate, ToolCall
from pool.errors import AgentFailed
from pool.guard.tool_rules import OTHERS, ApprovalRule, ToolRules, by_risk
from pool.turn import Principal, Risk

# Of an argument longer than this nothing is known: it fits the rules that ask or deny, and those
# that allow it does not.
ARGUMENT_CHARS: Final = 10_000
# Tools times roles, of which an agent's gate remembers what the rules say.
_REMEMBERED: Final = 1_024

_STRICTNESS: Final = {"allow": 0, "ask": 1, "deny": 2}
_REASONS: Final = {
    "allow": "",
    "ask": "a rule of this pool wants a human to decide",
    "deny": "a rule of this pool",
}
_RISKINESS: Final[Mapping[Risk, int]] = {"read": 0, "write": 1, "dangerous": 2}

Fits = Callable[[str], object]


def gate_of(rules: ToolRules | None, agent: str, own: Gate | None) -> Gate:
    """The gate of an agent: the rules, and if they do not deny the call, the agent's `own` gate as
    well. The stricter answer counts.

    Without rules those of `ToolRules()` hold: about a tool that its author calls dangerous a human
    is asked.
    """
    ruled = RulesGate(rules if rules is not None else ToolRules(), agent)
    return ruled if own is None else _BothGates(ruled, own)


class RulesGate:
    """The rules about tools, for one agent.

    What depends on the tool's name, its risk and the caller's roles is found out once; what depends
    on arguments, each time.
    """

    __slots__ = ("_agent", "_in_agent", "_risks", "_roles", "_rules", "_steps")

    def __init__(self, rules: ToolRules, agent: str) -> None:
        self._agent = agent
        self._roles = {role: _any_of(patterns) for role, patterns in rules.roles.items()}
        allowed = rules.agents.get(agent, rules.agents.get(OTHERS, ()))
        self._in_agent = _any_of(allowed) if rules.agents else _anything
        self._risks = [(_pattern(pattern), risk) for pattern, risk in rules.risks.items()]
        self._rules = [
            (rule, _any_of(rule.tools) if rule.tools else _anything)
            for rule in rules.approvals
            if not rule.agents or _any_of(rule.agents)(agent)
        ]
        self._steps = lru_cache(maxsize=_REMEMBERED)(self._find_steps)

    def __call__(self, principal: Principal, call: ToolCall) -> Decision:
        """What the rules say about the call."""
        found = self._steps(call.name, call.risk, principal.roles)
        for step in found.depending:
            if step.fits(call.arguments):
                return step.decision
        return found.otherwise

    def _find_steps(self, tool: str, declared: Risk | None, roles: tuple[str, ...]) -> _Steps:
        """The rules that may fit, in order, up to the first that fits whatever the arguments."""
        risk = next((risk for fits, risk in self._risks if fits(tool)), declared or "write")
        denied = self._denied(tool, roles)
        if denied:
            return _Steps((), Decision("deny", denied, risk))
        depending: list[_Step] = []
        for rule, fits in self._rules:
            if fits(tool) and _fits_caller(rule, risk, roles):
                step = _step(rule, risk)
                if not rule.arguments:
                    return _Steps(depending, step.decision)
                depending.append(step)
        reason = "" if by_risk(risk) == "allow" else f"a human decides about {risk} calls"
        return _Steps(depending, Decision(by_risk(risk), reason, risk))

    def _denied(self, tool: str, roles: tuple[str, ...]) -> str:
        """Why the tool is on no list; empty if it is on those it must be on."""
        if not self._in_agent(tool):
            return f"{tool} is not among the tools that agent {self._agent} may call"
        others = self._roles.get(OTHERS, _nothing)
        if self._roles and not any(self._roles.get(role, others)(tool) for role in roles):
            return f"{tool} is not among the tools that the caller's roles may use"
        return ""


class _BothGates:
    """The rules and an agent's own gate."""

    __slots__ = ("_own", "_ruled")

    def __init__(self, ruled: RulesGate, own: Gate) -> None:
        self._ruled = ruled
        self._own = own

    def __call__(self, principal: Principal, call: ToolCall) -> Decision | Awaitable[Decision]:
        ruled = self._ruled(principal, call)
        if ruled.action == "deny":
            return ruled
        own = self._own(principal, call)
        return stricter(ruled, own) if isinstance(own, Decision) else _awaited(ruled, own)


def stricter(ruled: Decision, own: Decision) -> Decision:
    """The stricter of what the rules and the agent's own gate say. If both ask, it is the higher
    risk, and who decides is in both lists; the rules' list counts if nobody is.
    """
    if own.action == "allow" or _STRICTNESS[own.action] < _STRICTNESS[ruled.action]:
        return ruled
    risk = max(ruled.risk, own.risk, key=_RISKINESS.__getitem__)
    if ruled.action != own.action:
        return Decision(own.action, own.reason, risk, own.deciders)
    both = tuple(role for role in ruled.deciders if role in own.deciders)
    deciders = both or ruled.deciders or own.deciders
    return Decision(own.action, ruled.reason or own.reason, risk, deciders)


class _Step(Struct, frozen=True):
    """A decision, and the arguments on which it depends."""

    decision: Decision
    arguments: Sequence[tuple[str, Fits]]

    def fits(self, given: Mapping[str, Any]) -> bool:
        """Whether every pattern fits its argument."""
        unsure = self.decision.action != "allow"
        return all(
            name in given and _fits_value(fits, given[name], unsure=unsure)
            for name, fits in self.arguments
        )


class _Steps(Struct, frozen=True):
    """What a call's arguments may change, in order, and what is decided `otherwise`."""

    depending: Sequence[_Step]
    otherwise: Decision


def _step(rule: ApprovalRule, risk: Risk) -> _Step:
    reason = rule.reason or _REASONS[rule.then]
    patterns = [(name, _pattern(pattern)) for name, pattern in rule.arguments.items()]
    return _Step(Decision(rule.then, reason, risk, tuple(rule.deciders)), patterns)


def _fits_caller(rule: ApprovalRule, risk: Risk, roles: tuple[str, ...]) -> bool:
    if rule.risk and risk not in rule.risk:
        return False
    return not rule.roles or any(role in rule.roles for role in roles)


def _fits_value(fits: Fits, value: object, *, unsure: bool) -> bool:
    text = value if isinstance(value, str) else _json(value)
    return unsure if len(text) > ARGUMENT_CHARS else bool(fits(text))


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise AgentFailed(
            f"an argument of a tool's call cannot be written as JSON ({type(error).__name__}); "
            "arguments must be plain data"
        ) from error


def _any_of(patterns: Sequence[str]) -> Fits:
    found = [_pattern(pattern) for pattern in patterns]
    return lambda text: any(fits(text) for fits in found)


def _pattern(pattern: str) -> Fits:
    return re.compile(translate(pattern)).match


def _anything(text: str) -> object:
    return True


def _nothing(text: str) -> object:
    return False


async def _awaited(ruled: Decision, own: Awaitable[Decision]) -> Decision:
    return stricter(ruled, await own)
