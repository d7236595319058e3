"""How much work a regular expression can be made to do, told from the expression itself."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Final

# how the library itself reads an expression
c: Any = import_module("re._constants")
parser: Any = import_module("re._parser")

_ASCII: Final = [chr(code) for code in range(128)]


def most_steps(pattern: re.Pattern[str]) -> int:
    """The most characters that a match from one place looks at, those not counted that it reads
    without bound.

    `AssertionError` if it can go back over what it has read (a repetition that is not possessive),
    or reads without bound what may begin anew in the middle: characters that the look behind at its
    beginning does not exclude. Without those a text is read through a fixed number of times.
    """
    tree = parser.parse(pattern.pattern, pattern.flags)
    return _steps(tree, _excluded(tree), pattern)


def _steps(tree: Any, excluded: set[str], pattern: re.Pattern[str]) -> int:
    return sum(_step(op, argument, excluded, pattern) for op, argument in tree)


def _step(op: Any, argument: Any, excluded: set[str], pattern: re.Pattern[str]) -> int:
    if op in (c.LITERAL, c.NOT_LITERAL, c.IN, c.ANY, c.AT):
        return 1
    if op is c.SUBPATTERN:
        return _steps(argument[-1], excluded, pattern)
    if op in (c.ASSERT, c.ASSERT_NOT):
        return _steps(argument[1], excluded, pattern)
    if op is c.BRANCH:
        return sum(_steps(each, excluded, pattern) for each in argument[1])
    assert op in (c.POSSESSIVE_REPEAT, c.MAX_REPEAT), f"{op} in {pattern.pattern}"
    least, most, inner = argument
    assert op is c.POSSESSIVE_REPEAT or least == most, f"goes back: {pattern.pattern}"
    if most is c.MAXREPEAT:
        assert _characters(inner) <= excluded, f"may begin in what it reads: {pattern.pattern}"
        return int(least)
    return int(most) * _steps(inner, excluded, pattern)


def _excluded(tree: Any) -> set[str]:
    """What the look behind at the beginning excludes."""
    for op, argument in tree:
        if op is c.ASSERT_NOT and argument[0] == -1:
            return _characters(argument[1])
    return set()


def _characters(tree: Any) -> set[str]:
    found: set[str] = set()
    for op, argument in tree:
        if op is c.IN:
            found |= {each for each in _ASCII if _is_in(argument, ord(each))}
        elif op is c.LITERAL:
            found.add(chr(argument))
        elif op is c.SUBPATTERN:
            found |= _characters(argument[-1])
        else:
            assert op is c.POSSESSIVE_REPEAT, op
            found |= _characters(argument[2])
    return found


def _is_in(items: Any, code: int) -> bool:
    for op, argument in items:
        if op is c.LITERAL and argument == code:
            return True
        if op is c.RANGE and argument[0] <= code <= argument[1]:
            return True
        if op is c.CATEGORY:
            assert argument is c.CATEGORY_WORD, argument
            if chr(code).isalnum() or code == ord("_"):
                return True
    return False
