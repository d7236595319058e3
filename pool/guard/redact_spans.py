"""Places in a text that hold something personal or secret. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final, Literal, NamedTuple

Kind = Literal["secret", "email", "iban", "card", "phone", "ip", "literal"]

# What can be looked for. A literal is what looks like a placeholder by itself.
KINDS: Final[tuple[Kind, ...]] = ("secret", "email", "iban", "card", "phone", "ip")


class Span(NamedTuple):
    """The characters from `start` to before `end`, and what they are."""

    start: int
    end: int
    kind: Kind


# Looks through a text once, in time that grows as its length does, whatever is in it.
Finder = Callable[[str], Iterable[Span]]


def apart(spans: Iterable[Span]) -> list[Span]:
    """The spans in order; of one that overlaps an earlier one the rest, unless that is of an e-mail
    address: a host. Of two that begin together the longer stays; of two alike the one that was
    given first.
    """
    longest_first = sorted(spans, key=attrgetter("end"), reverse=True)
    kept: list[Span] = []
    end = 0
    for span in sorted(longest_first, key=attrgetter("start")):
        if span.start < end:
            if span.end <= end or span.kind == "email":
                continue
            span = span._replace(start=end)
        kept.append(span)
        end = span.end
    return kept
