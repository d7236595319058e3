"""What stands in a text for what was taken out of it, and the way back.

A placeholder is `[email-1]`: a kind and a number, the same for the same value. The model is to
leave it as it is. Where a text says such a thing by itself, that too is taken out (kind `literal`):
nobody gets at a value by writing its placeholder.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from pool.errors import TooLarge
from pool.guard.redact_spans import Kind, Span

_KINDS: Final = get_args(Kind)
# The numbers of placeholders have no more digits.
_DIGITS: Final = 6
PLACEHOLDER: Final = re.compile(rf"\[(?:{'|'.join(_KINDS)})-[0-9]{{1,{_DIGITS}}}+\]")
# How many values are kept for one session.
MOST: Final = 10_000
# How deep a JSON value may be nested.
DEPTH_MAX: Final = 100


class Placeholders:
    """Values and what stands for them, of one session, say.

    `known`: placeholders and their values, as `known` had them before. At most `most` values are
    kept; for further ones stands `[email]`, which cannot be restored. New ones are numbered from
    `first` on.
    """

    def __init__(
        self, known: Mapping[str, str] | None = None, *, most: int = MOST, first: int = 1
    ) -> None:
        self._values: dict[str, str] = {}
        self._placeholders: dict[tuple[str, str], str] = {}
        self._next: defaultdict[str, int] = defaultdict(lambda: first)
        self._most = min(most, 10**_DIGITS - first)
        for placeholder, value in (known or {}).items():
            kind = placeholder[1:-1].rpartition("-")[0]
            self._keep(kind, value, placeholder)

    def __repr__(self) -> str:
        # the values are what nobody is to see
        return f"<Placeholders [{len(self._values)} of {self._most}]>"

    def __len__(self) -> int:
        return len(self._values)

    @property
    def known(self) -> Mapping[str, str]:
        """All placeholders and the values they stand for, to be kept as what they are: secret."""
        return dict(self._values)

    def of(self, kind: Kind, value: str) -> str:
        """What stands for a value."""
        placeholder = self._placeholders.get((kind, value))
        if placeholder is None:
            if len(self._values) >= self._most:
                return f"[{kind}]"
            placeholder = self._new(kind)
            self._keep(kind, value, placeholder)
        return placeholder

    def restore(self, text: str) -> str:
        """The text with the values in place of their placeholders; unknown ones stay."""
        if not self._values or "[" not in text:
            return text
        return PLACEHOLDER.sub(lambda found: self._values.get(found[0], found[0]), text)

    def restore_value(self, value: Any) -> Any:
        """A JSON value, such as a tool's arguments, with all texts in it restored; `TooLarge` if it
        is nested deeper than 100.
        """
        return map_texts(value, self.restore)

    def _new(self, kind: str) -> str:
        while True:
            placeholder = f"[{kind}-{self._next[kind]}]"
            self._next[kind] += 1
            if placeholder not in self._values:
                return placeholder

    def _keep(self, kind: str, value: str, placeholder: str) -> None:
        self._values[placeholder] = value
        self._placeholders[kind, value] = placeholder


class RestoringStream:
    """Restores a text that comes in pieces, with placeholders split anywhere.

    What may be the beginning of a placeholder is held back until more has come: a few characters.
    """

    def __init__(self, placeholders: Placeholders) -> None:
        self._placeholders = placeholders
        self._held = ""

    def feed(self, delta: str) -> str:
        """What can be said now that this piece has come; it may be nothing."""
        text = self._held + delta
        begins = text.rfind("[", max(0, len(text) - _LONGEST))
        if begins >= 0 and _may_become_one(text[begins:]):
            self._held, text = text[begins:], text[:begins]
        else:
            self._held = ""
        return self._placeholders.restore(text)

    def end(self) -> str:
        """What was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        return held


def literals(text: str) -> Iterator[Span]:
    """What looks like a placeholder."""
    return (Span(*found.span(), "literal") for found in PLACEHOLDER.finditer(text))


def map_texts(value: Any, change: Any, depth: int = 0) -> Any:
    """A JSON value with all its texts changed, keys included; `TooLarge` if it is nested deeper
    than 100.
    """
    if isinstance(value, str):
        return change(value)
    if not isinstance(value, dict | list | tuple):
        return value
    if depth == DEPTH_MAX:
        raise TooLarge(f"a value is nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        return {
            map_texts(key, change, depth + 1): map_texts(each, change, depth + 1)
            for key, each in value.items()
        }
    return [map_texts(each, change, depth + 1) for each in value]


_LONGEST: Final = max(map(len, _KINDS)) + _DIGITS + len("[-]")


def _may_become_one(text: str) -> bool:
    kind, dash, number = text[1:].partition("-")
    if dash:
        plain = number.isascii() and number.isdigit() and len(number) <= _DIGITS
        return kind in _KINDS and (plain or not number)
    return any(each.startswith(kind) for each in _KINDS)
