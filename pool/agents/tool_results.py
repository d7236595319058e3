"""What comes of a tool's call: text for the model, plain JSON for readers, both of bounded size."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

# What a model is shown of one result at most, in characters, unless the tool says otherwise.
RESULT_CHARS: Final = 100_000


class Result(Struct, frozen=True):
    """What came of a call: the text for the model, and what readers are shown."""

    text: str
    shown: Any
    is_error: bool = False


def rendered(value: Any, chars: int) -> Result:
    """What a tool returned, cut to so many characters."""
    if value is None:
        return Result("done", None)
    if isinstance(value, str):
        text = fit(value, chars)
        return Result(text, text)
    try:
        plain = msgspec.to_builtins(value, str_keys=True)
        text = msgspec.json.encode(plain).decode()
    except (TypeError, ValueError, RecursionError):
        return failed(f"the tool returned {type(value).__name__}, which is not JSON")
    if len(text) <= chars:
        return Result(text, plain)
    cut = fit(text, chars)
    return Result(cut, cut)


def failed(text: str) -> Result:
    """That a call has no result, in words for both."""
    fitting = fit(text)
    return Result(fitting, fitting, is_error=True)


def fit(text: str, chars: int = RESULT_CHARS) -> str:
    """The text without what cannot be written as UTF-8, cut to so many characters."""
    cut = text[:chars]
    if not cut.isascii():
        cut = cut.encode("utf-8", "replace").decode()
    if len(text) > chars:
        return f"{cut} [cut: {len(text)} characters in all]"
    return cut
