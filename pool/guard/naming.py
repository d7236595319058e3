"""Names of counters, made of names that others chose."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

_plain: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}").fullmatch


def name_part(text: str) -> str:
    """The text as part of a counter's name: itself, or `/` and 32 hex digits of its SHA-256 if it
    has other signs or is too long. Different texts have different parts.
    """
    if _plain(text) is not None:
        return text
    return f"/{sha256(text.encode(errors='surrogatepass')).hexdigest()[:32]}"
