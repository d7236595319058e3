"""Rules about tools: who may have them called, how risky they are, and when a human decides.

A call is allowed if one of its caller's roles may use the tool, the agent may, and no rule denies
it; a rule may also want a human's word. What an agent may do in a turn is thus what its caller may,
cut with what the agent may.

Tools, agents and arguments are named by patterns: `*` stands for any characters, `?` for one,
`[abc]` for one of these. There are no other signs, so that no pattern costs more on a hostile text
than on another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

from msgspec import Struct

from pool.errors import ConfigError
from pool.turn import Risk

# The longest pattern, in characters.
PATTERN_CHARS: Final = 200
# Whoever has no list of its own.
OTHERS: Final = "*"

_ACTIONS: Final = ("allow", "ask", "deny")
# what a risk says about a call that no rule fits
_BY_RISK: Final[Mapping[Risk, Literal["allow", "ask"]]] = {
    "read": "allow",
    "write": "allow",
    "dangerous": "ask",
}


class ApprovalRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do about calls that fit all that the rule names; what it does not name fits.

    `risk`: one of these classes. `roles`: the caller has one of these. `agents`, `tools`: one of
    these patterns fits the name. `arguments`: for each of these arguments its pattern fits, the
    whole of it: of a text the text itself, of anything else its JSON. An argument that the call
    leaves out fits no pattern.

    `deciders`: with `ask`, one of these roles decides (none: whoever asked for the turn, and
    operators). `reason`: with `deny` the model is told it.
    """

    then: Literal["allow", "ask", "deny"]
    risk: Sequence[Risk] = ()
    roles: Sequence[str] = ()
    agents: Sequence[str] = ()
    tools: Sequence[str] = ()
    arguments: Mapping[str, str] = {}
    deciders: Sequence[str] = ()
    reason: str = ""


class ToolRules(Struct, frozen=True, kw_only=True):
    """Rules about the tools of all agents of a pool.

    `roles`: by role, patterns of the tools that callers who have it may have called. `agents`: by
    agent, patterns of the tools that it may call. Without lists there is no limit; with them,
    whatever is on none is denied. `*` stands for the roles, and agents, without a list.

    `risks`: by pattern of tools, the class that counts, whatever their authors say; the first that
    fits. A tool of which nobody says anything is `write`.

    `approvals`: the first rule that fits decides. If none does, `read` and `write` are allowed, and
    about `dangerous` a human is asked.
    """

    roles: Mapping[str, Sequence[str]] = {}
    agents: Mapping[str, Sequence[str]] = {}
    risks: Mapping[str, Risk] = {}
    approvals: Sequence[ApprovalRule] = ()

    def __post_init__(self) -> None:
        for option in ("roles", "agents"):
            for name, patterns in getattr(self, option).items():
                _check(f"{option}.{name}", name, bool(name), "name whose list it is")
                _check_patterns(f"{option}.{name}", patterns)
        for pattern, risk in self.risks.items():
            _check_pattern("risks", pattern)
            _check_word(f"risks.{pattern}", risk, get_args(Risk))
        for place, rule in enumerate(self.approvals):
            _check_rule(f"approvals.{place}", rule)


def by_risk(risk: Risk) -> Literal["allow", "ask"]:
    """What is done about a call of this class that no rule fits."""
    return _BY_RISK[risk]


def _check_rule(option: str, rule: ApprovalRule) -> None:
    _check_word(f"{option}.then", rule.then, _ACTIONS)
    _check_words(f"{option}.risk", rule.risk)
    for risk in rule.risk:
        _check_word(f"{option}.risk", risk, get_args(Risk))
    for words in ("roles", "deciders"):
        _check_words(f"{option}.{words}", getattr(rule, words))
    for patterns in ("agents", "tools"):
        _check_patterns(f"{option}.{patterns}", getattr(rule, patterns))
    for argument, pattern in rule.arguments.items():
        _check_pattern(f"{option}.arguments.{argument}", pattern)
    fits = not rule.deciders or rule.then == "ask"
    _check(f"{option}.deciders", rule.deciders, fits, 'there is nothing to decide: then = "ask"')


def _check_patterns(option: str, patterns: Sequence[str]) -> None:
    _check_words(option, patterns)
    for pattern in patterns:
        _check_pattern(option, pattern)


def _check_words(option: str, words: Sequence[str]) -> None:
    # a text alone would be taken for a list of its letters
    _check(option, words, not isinstance(words, str), f'write a list: ["{words}"]')
    _check(option, words, all(words), "write no empty text")


def _check_pattern(option: str, pattern: str) -> None:
    fits = 0 < len(pattern) <= PATTERN_CHARS
    _check(option, pattern, fits, f"write a pattern of 1 to {PATTERN_CHARS} characters")


def _check_word(option: str, word: str, words: Sequence[str]) -> None:
    _check(option, word, word in words, "write one of " + ", ".join(words))


def _check(option: str, value: object, fits: bool, remedy: str) -> None:
    if not fits:
        raise ConfigError(option, value, remedy)
