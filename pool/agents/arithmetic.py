"""Arithmetic written as text: numbers, + - * / and brackets. Read by hand, never run as code."""

from __future__ import annotations

import re
from decimal import Decimal, DecimalException, localcontext
from typing import Final

_TOKEN: Final = re.compile(r"\s*(\d+(?:\.\d+)?|[-+*/()])", re.ASCII)
_MAX_CHARS: Final = 200
_MAX_DEPTH: Final = 20
_DIGITS: Final = 28


class NotArithmetic(ValueError):
    """The text cannot be worked out; the message says why."""


def work_out(text: str) -> str:
    """The result of the arithmetic in `text`, to 28 digits; `NotArithmetic` if there is none."""
    if len(text) > _MAX_CHARS:
        raise NotArithmetic(f"more than {_MAX_CHARS} characters")
    terms = _Terms(_tokens(text))
    try:
        with localcontext(prec=_DIGITS):
            result = terms.whole()
    except DecimalException:
        raise NotArithmetic("division by zero") from None
    if result == result.to_integral_value():
        return f"{result.quantize(Decimal(1)) if abs(result) < 10**_DIGITS else result:f}"
    return f"{result.normalize():f}"


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    place, text = 0, text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise NotArithmetic(f"unexpected {text[place:].lstrip()[:1]!r}")
        tokens.append(match[1])
        place = match.end()
    return tokens


class _Terms:
    """Reads tokens from left to right; products bind tighter than sums."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    def whole(self) -> Decimal:
        value = self._sum()
        if self._next:
            raise NotArithmetic(f"unexpected {self._next!r}")
        return value

    def _sum(self) -> Decimal:
        value = self._product()
        while self._next in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        return value

    def _product(self) -> Decimal:
        value = self._factor()
        while self._next in ("*", "/"):
            value = value * self._factor() if self._take() == "*" else value / self._factor()
        return value

    def _factor(self) -> Decimal:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotArithmetic(f"nested more than {_MAX_DEPTH} deep")
        term = self._take()
        if term == "-":
            value = -self._factor()
        elif term == "(":
            value = self._sum()
            if self._take() != ")":
                raise NotArithmetic("a bracket is not closed")
        elif term[:1].isdigit():
            value = Decimal(term)
        else:
            raise NotArithmetic(f"unexpected {term!r}" if term else "it ends too early")
        self._depth -= 1
        return value

    @property
    def _next(self) -> str:
        return self._tokens[self._place] if self._place < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next
        self._place += 1
        return token
