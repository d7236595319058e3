"""How a caller wants to be answered: the `Accept` and `Prefer` headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

EVENT_STREAM: Final = "text/event-stream"
CSV: Final = "text/csv"

# RFC 7240: preference = token [ "=" word ] *( ";" [ parameter ] ), word = token | quoted-string
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PREFERENCE: Final = re.compile(
    rf"[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*({_TOKEN}|{_QUOTED}))?((?:[^,\"]|{_QUOTED})*)(?:,|$)"
)
# A wait that no turn can outlast needs no more digits.
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
# What follows is passed over: reading it must not cost more than answering.
_READ_CHARACTERS: Final = 1_024


class Preferences(Struct, frozen=True):
    """`respond_async`: answer at once; `wait_s`: answer after so many seconds at the latest."""

    respond_async: bool = False
    wait_s: int | None = None

    @property
    def patience_s(self) -> float | None:
        """How long to wait for the turn's end, in seconds; None: as long as it takes."""
        if self.wait_s is not None:
            return self.wait_s
        return 0.0 if self.respond_async else None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The `Preference-Applied` header, if there was a preference."""
        names = ["respond-async"] if self.respond_async else []
        if self.wait_s is not None:
            names.append(f"wait={self.wait_s}")
        return (("Preference-Applied", ", ".join(names)),) if names else ()


NONE: Final = Preferences()


def prefer(headers: list[str]) -> Preferences:
    """What the `Prefer` headers ask for. Of a preference given twice the first counts; one that is
    not understood is passed over (RFC 7240)."""
    respond_async = False
    wait_s: int | None = None
    seen: set[str] = set()
    for name, value in _preferences(",".join(headers)[:_READ_CHARACTERS]):
        if name in seen:
            continue
        seen.add(name)
        if name == "respond-async":
            respond_async = True
        elif name == "wait" and _SECONDS.fullmatch(value):
            wait_s = int(value)
    return Preferences(respond_async, wait_s)


def _preferences(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        match = _PREFERENCE.match(text, place)
        if match is None:
            # not a preference: go on after the next comma
            place = text.find(",", place) + 1 or len(text)
            continue
        place = match.end()
        yield match[1].lower(), _unquoted(match[2] or "")


def _unquoted(word: str) -> str:
    if word.startswith('"'):
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    return word


def wants_events(accept: str) -> bool:
    """Whether `Accept` asks for events rather than for JSON. Both alike: the first counts."""
    accept = accept.lower()
    return EVENT_STREAM in accept and _prefers(accept, EVENT_STREAM)


def wants_csv(accept: str) -> bool:
    """The same for a table as CSV."""
    accept = accept.lower()
    return CSV in accept and _prefers(accept, CSV)


def _prefers(accept: str, kind: str) -> bool:
    asked = json = 0.0
    first = ""
    for part in accept.split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = _quality(parameters)
        if name == kind:
            asked = max(asked, quality)
        elif name == "application/json":
            json = max(json, quality)
        else:
            continue
        first = first or name
    return asked > json or (asked == json > 0 and first == kind)


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
