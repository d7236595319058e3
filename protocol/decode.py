"""What callers send, as structs. Everything that can be wrong with it is an `InvalidRequest`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import DecodeError, Struct, ValidationError

from pool.errors import InvalidRequest
from pool.turn import CALL_ID_PATTERN
from protocol.problems import FieldError, InvalidFields

T = TypeVar("T")

# How deep objects and lists may be nested. What is kept is written again inside other objects, deep
# in the server's own calls: the encoder's limit must not be what finds out.
MAX_DEPTH: Final = 64

_is_call_id: Final = re.compile(CALL_ID_PATTERN).match
_is_id: Final = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# Where it is wrong, at the end of msgspec's text. What callers wrote may look alike, but for this.
_AT: Final = re.compile(r"(.*) - at `(?:key` in `)?\$([A-Za-z0-9_.\[\]]*)`", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)", re.DOTALL)
_PATTERN: Final = re.compile(r"Expected `str` matching regex .*", re.DOTALL)
_CHOICE: Final = re.compile(r"Invalid (?:enum )?value .*", re.DOTALL)


def body(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Decode JSON into what the decoder is for; `InvalidRequest` says what is wrong with it."""
    try:
        value = decoder.decode(data)
    except ValidationError as error:
        raise invalid_fields(error, "the body") from None
    except UnicodeError:
        raise InvalidRequest("the body is not UTF-8") from None
    except DecodeError:
        raise InvalidRequest("the body is not valid JSON") from None
    except RecursionError:
        raise _too_deep() from None
    # Counting brackets costs nothing and clears all but the odd body.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and depth(value) > MAX_DEPTH:
        raise _too_deep()
    return value


def query(kind: type[T], pairs: Mapping[str, str]) -> T:
    """A query as a struct; `InvalidRequest` for unknown, repeated or wrong parameters."""
    if len(set(pairs)) != len(pairs):
        raise InvalidRequest("a query parameter was given twice; give it once")
    try:
        return msgspec.convert(dict(pairs), kind, strict=False)
    except ValidationError as error:
        raise invalid_fields(error, "the query") from None


def identifier(text: str, field: str) -> str:
    """An id from a path; `InvalidRequest` if it is not made of 1 to 64 of `A-Za-z0-9_-`, or, that
    of a call, of 1 to 256 visible ASCII characters.
    """
    if field == "call_id":
        if _is_call_id(text) is None:
            raise InvalidRequest("a call's id is 1 to 256 visible ASCII characters", field=field)
    elif _is_id(text) is None:
        raise InvalidRequest("an id is 1 to 64 letters, digits, _ or -", field=field)
    return text


def invalid_fields(error: ValidationError, where: str) -> InvalidFields:
    """Which field is wrong, and why, without what the caller wrote into it."""
    text, field = str(error), ""
    if at := _AT.fullmatch(text):
        text, field = at[1], at[2].lstrip(".")
    if unknown := _UNKNOWN.fullmatch(text):
        name = unknown[1].removesuffix("`")
        field = f"{field}.{name if _NAME.fullmatch(name) else ''}".strip(".")
        text = "this field is not known"
    text = _PATTERN.sub("not of the form that is asked for", text)
    text = _CHOICE.sub("not one of the values to choose from", text)
    named = f"{where}: {field}: {text}" if field else f"{where}: {text}"
    return InvalidFields(named, [FieldError(field, text)])


def depth(value: object) -> int:
    """How deep the objects and lists of `value` are nested."""
    deepest = 0
    todo: list[tuple[Any, int]] = [(value, 1)]
    while todo:
        item, level = todo.pop()
        inner = _inner(item)
        if inner is not None:
            deepest = max(deepest, level)
            todo.extend((part, level + 1) for part in inner)
    return deepest


def _inner(item: object) -> tuple[Any, ...] | None:
    if isinstance(item, dict):
        return tuple(item.values())
    if isinstance(item, list | tuple):
        return tuple(item)
    if isinstance(item, Struct):
        return msgspec.structs.astuple(item)
    return None


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels")
