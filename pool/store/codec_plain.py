"""Rows and free-form data as bytes, whatever text and numbers they hold."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pool.errors import InvalidRequest
from pool.text import writable

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode
# the whole numbers that msgpack holds
_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1


def encode_plain(value: object, what: str) -> bytes:
    """Free-form data as JSON; `InvalidRequest`, naming `what` it is, if it is not plain data."""
    try:
        return _encode_json(value)
    except UnicodeEncodeError:
        return _encode_json(_writable(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{what} cannot be written as JSON ({type(error).__name__}); it must be plain data",
            field=what,
        ) from error


def decode_plain(data: bytes) -> Any:
    """What was encoded."""
    return _decode_json(data)


def encode_row(row: object) -> bytes:
    """A row of numbers, text, bytes and rows as msgpack. A number that msgpack cannot hold becomes
    the nearest that it can.
    """
    try:
        return _encode(row)
    except (UnicodeEncodeError, OverflowError):
        return _encode(_writable(row))


def _writable(value: Any) -> Any:
    # only strings, numbers and what holds them need a look: anything else is encoded as it is
    if isinstance(value, str):
        return writable(value)[0]
    if isinstance(value, dict):
        return {_writable(key): _writable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return min(max(value, _LEAST), _MOST)
    return value
