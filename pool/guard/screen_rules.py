"""What attempts to take over a model's instructions look like. Data.

Rules are matched against a text made plain by `plain`: small letters, single spaces, no invisible
characters. Every repetition in them is bounded or takes all it can and gives nothing back, so that
a hostile text costs no more than another.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from unicodedata import category, normalize


class Rule(NamedTuple):
    """A pattern, its name in flags and logs, and why it is suspicious."""

    name: str
    pattern: re.Pattern[str]
    why: str


def plain(text: str) -> str:
    """The text as rules see it: compatibility forms as one (NFKC), no invisible characters, small
    letters, single spaces.
    """
    if not text.isascii():
        text = "".join(
            each for each in normalize("NFKC", text) if each.isspace() or category(each) != "Cf"
        )
    return " ".join(text.casefold().split())


def _rule(name: str, pattern: str, why: str) -> Rule:
    return Rule(name, re.compile(pattern), why)


# up to three words between what matters
_WORDS: Final = r"(?:\w{1,16} ){0,3}?"
_ORDERS: Final = r"(?:instructions?|prompts?|rules|guidelines|directions|orders|context)\b"

RULES: Final[tuple[Rule, ...]] = (
    _rule(
        "ignore_instructions",
        rf"\b(?:ignore|disregard|forget|override|bypass|skip) {_WORDS}"
        rf"(?:previous|prior|above|earlier|preceding|original|initial|system|your|all) {_WORDS}"
        rf"{_ORDERS}",
        "tells the model to leave its instructions",
    ),
    _rule(
        "new_instructions",
        rf"\b(?:new|updated|real|actual|revised) {_WORDS}(?:instructions?|system prompt) ?[:=]",
        "pretends to bring other instructions",
    ),
    _rule(
        "reveal_prompt",
        r"\b(?:reveal|show|print|repeat|output|display|leak|tell me|give me|what (?:is|are|was)) "
        rf"{_WORDS}(?:system|initial|hidden|secret|original|developer|your) {_WORDS}"
        r"(?:prompt|instructions?)\b",
        "asks for the model's instructions",
    ),
    _rule(
        "other_self",
        rf"\b(?:you are|act as|pretend (?:to be|you are)|become|roleplay as) {_WORDS}"
        r"(?:dan|jailbroken|unrestricted|unfiltered|uncensored|developer mode|evil|"
        r"no longer bound)\b",
        "gives the model another self without its limits",
    ),
    _rule(
        "mode_switch",
        r"\b(?:enable|enter|activate|switch to|turn on) "
        rf"{_WORDS}(?:developer|debug|god|admin|jailbreak|unrestricted|dan) mode\b",
        "switches to a mode without limits",
    ),
    _rule(
        "no_limits",
        rf"\bwithout (?:any )?(?:restrictions?|filters?|limitations?|censorship|guardrails)\b"
        rf"|\b(?:ignore|disable|bypass|turn off) {_WORDS}"
        r"(?:safety|security|content|guardrails?|filters?|polic(?:y|ies)|moderation)\b",
        "asks for no limits",
    ),
    _rule(
        "role_markup",
        r"<\|(?:im_start|im_end|system|assistant|user|endoftext|begin_of_text|start_header_id)\|?>?"
        r"|\[/?inst\]|<</?sys>>|</?(?:system|assistant)>"
        r"|(?:^| )#{2,3} ?(?:system|instructions?) ?:",
        "writes the marks that part roles in a conversation",
    ),
    _rule(
        "exfiltration",
        rf"\b(?:send|post|forward|upload|e-?mail|exfiltrate|transmit) {_WORDS}"
        r"(?:conversation|chat history|api keys?|passwords?|credentials|secrets?|tokens?|"
        rf"system prompt) {_WORDS}(?:to|via|at)\b",
        "asks to send secrets or the conversation somewhere",
    ),
    _rule(
        "hidden_image",
        r"!\[[^\]]{0,80}+\]\(https?://[^)\s?&]{1,200}+[?&][^)\s=]{0,80}+=(?:\{|\[|<|%7b)",
        "an image whose address is to carry what was said",
    ),
    _rule(
        "conceal",
        rf"\b(?:do not|don't|never|without) (?:tell|telling|inform|informing|mention|mentioning|"
        rf"alert|alerting) {_WORDS}(?:the )?(?:user|human|operator|anyone)\b",
        "tells the model to hide something from its user",
    ),
)
