"""Ids of tools' calls: as providers and agents make them, and what is none."""

from __future__ import annotations

from typing import Final

CALL_IDS: Final = (
    "c1",
    "call_0aBcDeFgHiJkLmNoPqRsTuVw",
    "toolu_01A09q90qw90lq917835lq9",
    "functions.pay:0",
    "a/b/../c?d#e%41",
    "".join(map(chr, range(0x21, 0x7F))),
    "x" * 256,
)
NO_CALL_IDS: Final = (
    *("", "a b", "a\n", "a\r\nSet-Cookie: b", "\x00", "\x7f", "\u00e9", "\ufeffa"),
    *(".", "..", "x" * 257),
)
