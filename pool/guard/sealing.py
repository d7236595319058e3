"""An agent's state together with the values of the placeholders in it.

Sealed, a state is a row of frames: two lengths, the values (a JSON object: placeholder to value),
a piece of the state. Like the state it grows by adding to its end, and what was added there is
opened with the rest. The values come and go with the state: a turn that leaves no state leaves no
values; another agent of the session has its own; who deletes the session deletes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct as Layout
from typing import Final

import msgspec

from pool.text import writable

# What the format of a state begins with that is sealed.
SEALED: Final = "veiled/1 "

_LENGTHS: Final = Layout(">II")
_decoder: Final = msgspec.json.Decoder(dict[str, str])


def seal(values: Mapping[str, str], piece: bytes) -> bytes:
    """One frame: a state, or what it grew by, with the values that came with it."""
    known = b""
    if values:
        known = msgspec.json.encode({name: writable(text)[0] for name, text in values.items()})
    return _LENGTHS.pack(len(known), len(piece)) + known + piece


def unseal(sealed: bytes) -> tuple[dict[str, str], bytes]:
    """All values and the whole state; `ValueError` if these are not frames."""
    values: dict[str, str] = {}
    pieces: list[bytes] = []
    place = 0
    while place < len(sealed):
        start = place + _LENGTHS.size
        if start > len(sealed):
            raise ValueError("a frame of a sealed state has no lengths")
        known, size = _LENGTHS.unpack_from(sealed, place)
        middle = start + known
        place = middle + size
        if place > len(sealed):
            raise ValueError("a frame of a sealed state is cut")
        if known:
            values.update(_values(sealed[start:middle]))
        pieces.append(sealed[middle:place])
    return values, pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _values(known: bytes) -> dict[str, str]:
    try:
        return _decoder.decode(known)
    except msgspec.MsgspecError:
        raise ValueError("the values of a sealed state cannot be read") from None
