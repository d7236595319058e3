"""Turns, events and what was said as bytes, as the durable stores keep them.

The form is compact msgpack: arrays instead of maps, words of a fixed set as numbers, and nothing
that can be told from elsewhere. It is kept for years: a later version adds fields at the end, with
defaults, and numbers at the end of a table; it never changes or moves what is there.

Free-form data (metadata, what a tool takes and returns) is JSON inside, and comes back as JSON
gives it: a tuple as a list, not-a-number as None. Lone surrogates, which UTF-8 cannot hold, become
question marks.
"""

from __future__ import annotations

from pool.store.codec_events import decode_events, encode_events, ended_in, turns_in
from pool.store.codec_plain import decode_plain, encode_plain
from pool.store.codec_said import decode_said, encode_said
from pool.store.codec_turns import decode_turn, encode_turn

__all__ = [
    "decode_events",
    "decode_plain",
    "decode_said",
    "decode_turn",
    "encode_events",
    "encode_plain",
    "encode_said",
    "encode_turn",
    "ended_in",
    "turns_in",
]
