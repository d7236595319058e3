"""What is shown on a terminal. Nothing that a model or a tool says may steer the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TextIO
from unicodedata import category

import msgspec

# What moves the cursor, sets the title, rewrites lines: all control characters but these.
_HARMLESS: Final = "\n\t"


class Screen:
    """Writes answers as they come, and notes on lines of their own, in brackets."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._at_start = True

    def text(self, text: str) -> None:
        """A piece of an answer."""
        self._write(harmless(text))

    def note(self, text: str) -> None:
        """Something that is no answer."""
        self.end_line()
        self._write(f"[{visible(text)}]\n")

    def end_line(self) -> None:
        """Begin a new line, unless this one is empty."""
        if not self._at_start:
            self._write("\n")

    @staticmethod
    def call(name: str, arguments: Mapping[str, Any]) -> str:
        """A tool call with its exact arguments."""
        return f"{name} {msgspec.json.encode(arguments).decode()}"

    def _write(self, text: str) -> None:
        if text:
            self._at_start = text.endswith("\n")
            self._out.write(text)
            self._out.flush()


def harmless(text: str) -> str:
    """The text without what would steer a terminal; lines and tabs stay."""
    return "".join(each for each in text if each in _HARMLESS or category(each) != "Cc")


def visible(text: str) -> str:
    """The text with what is unseen made seen: direction marks must not mislead who approves."""
    return "".join(
        f"\\u{ord(each):04x}" if category(each) in ("Cc", "Cf", "Cs") else each for each in text
    )
