"""Secrets that can be told by their looks: keys and tokens of common providers, private keys.

A pattern begins where no letter, digit, `_` or `-` is before it, and never goes back over what it
has read: a text is read through once, whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pool.guard.redact_spans import Span

# What keys and tokens look like, as their makers say.
_KEYS: Final[tuple[str, ...]] = (
    r"sk-[A-Za-z0-9_-]{20,}+",  # OpenAI (also sk-proj-), Anthropic (sk-ant-)
    r"gh[opsur]_[A-Za-z0-9]{36,}+",  # GitHub
    r"github_pat_[A-Za-z0-9_]{22,}+",
    r"glpat-[A-Za-z0-9_-]{20,}+",  # GitLab
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS: the id of an access key
    r"xox[a-z]-[A-Za-z0-9-]{10,}+",  # Slack
    r"xapp-[A-Za-z0-9-]{10,}+",
    r"AIza[A-Za-z0-9_-]{35,}+",  # Google
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}+",  # Stripe
    r"hf_[A-Za-z0-9]{30,}+",  # Hugging Face
    r"ap_[A-Za-z0-9_-]{20,}+",  # our own
    # a JSON Web Token, with its signature or without
    r"eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+)?+",
)
KEY: Final = re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(_KEYS)})")

# AWS: the secret itself looks like nothing in particular, but is written next to its name.
NAMED: Final = re.compile(
    r"(?<![A-Za-z0-9_])(?i:aws_secret_access_key|secretaccesskey)[\"']?+\s{0,8}+[=:]\s{0,8}+[\"']?+"
    r"(?P<value>[A-Za-z0-9/+=]{40})(?![A-Za-z0-9/+=])"
)

# What stands for user and password in a URL.
IN_URL: Final = re.compile(r"(?<=://)[^\s/@:\[\]]{0,256}+:[^\s/@]{1,512}+(?=@)")

# A PEM block begins or ends. (RFC 7468; OpenSSH and PGP write theirs alike.)
PEM: Final = re.compile(
    r"-----(?P<what>BEGIN|END) (?:(?:RSA|DSA|EC|OPENSSH|ENCRYPTED|PGP) )?+"
    r"PRIVATE KEY(?: BLOCK)?+-----"
)
# Of a private key that does not end so much is taken, in characters.
UNENDED_MAX: Final = 8_192


def secrets(text: str) -> Iterator[Span]:
    """Keys, tokens, passwords in URLs, private keys."""
    for pattern in (KEY, IN_URL):
        yield from (Span(*found.span(), "secret") for found in pattern.finditer(text))
    yield from (Span(*found.span("value"), "secret") for found in NAMED.finditer(text))
    yield from _private_keys(text)


def _private_keys(text: str) -> Iterator[Span]:
    begun: int | None = None
    for found in PEM.finditer(text):
        ends = found["what"] == "END"
        if begun is not None:
            end = found.end() if ends else min(found.start(), begun + UNENDED_MAX)
            yield Span(begun, end, "secret")
        begun = None if ends else found.start()
    if begun is not None:
        yield Span(begun, min(len(text), begun + UNENDED_MAX), "secret")
