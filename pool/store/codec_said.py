"""An entry of the transcript as bytes: what one turn said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from pool.store.codec_plain import encode_row
from pool.turn import Message


class _SaidRow(Struct, array_like=True, gc=False):
    turn_id: str
    # of each message whether the user said it, its text and its time
    messages: tuple[tuple[bool, str, float], ...]


_decode: Final = msgspec.msgpack.Decoder(_SaidRow).decode


def encode_said(messages: Sequence[Message]) -> bytes:
    """One entry of the transcript: a turn's one or two messages."""
    turn_id = messages[0].turn_id if messages else ""
    said = [(each.role == "user", each.content, each.created_at) for each in messages]
    return encode_row((turn_id, said))


def decode_said(data: bytes) -> tuple[Message, ...]:
    """The messages of an entry."""
    row = _decode(data)
    return tuple(
        Message("user" if asked else "assistant", content, row.turn_id, at)
        for asked, content, at in row.messages
    )
