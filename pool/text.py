"""Text that somebody said, made fit to be stored, sent, and put into a table."""

from __future__ import annotations

from typing import Final

# What makes a spreadsheet take a text for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def writable(text: str) -> tuple[str, int]:
    """The text and its size in bytes of UTF-8; lone surrogates, which that cannot hold, are `?`."""
    if text.isascii():
        return text, len(text)
    try:
        return text, len(text.encode())
    except UnicodeEncodeError:
        encoded = text.encode(errors="replace")
        return encoded.decode(), len(encoded)


def no_formula(text: str) -> str:
    """The text as a cell of CSV; one that a spreadsheet would take for a formula has a `'` before
    it.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text
