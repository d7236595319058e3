"""What callers send becomes structs, and what is wrong with it an error that names the field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Struct
from multidict import MultiDict

from pool.errors import InvalidRequest
from pool.turn import TurnRequest
from protocol import decode
from protocol.http.sessions import PageQuery
from protocol.http.turns import WaitQuery
from protocol.problems import FieldError, InvalidFields

DECODER = msgspec.json.Decoder(TurnRequest)


@pytest.mark.parametrize(
    ("data", "field", "message"),
    [
        (b'{"input":3}', "input", "Expected `str`, got `int`"),
        (b'{"input":""}', "input", "Expected `str` of length >= 1"),
        (b'{"input":"a","webhook":{"url":3}}', "webhook.url", "Expected `str`, got `int`"),
        (b'{"input":"a","priority":"x"}', "priority", "not one of the values to choose from"),
        (b'{"input":"a","agent":"../"}', "agent", "not of the form that is asked for"),
        (b'{"input":"a","more":1}', "more", "this field is not known"),
        (b'{"input":"a","webhook":{"url":"u","x":1}}', "webhook.x", "this field is not known"),
        (b'{"input":"a","deadline_s":0}', "deadline_s", "Expected `float` > 0.0"),
        (b"{}", "", "Object missing required field `input`"),
        (b"[]", "", "Expected `object`, got `array`"),
    ],
)
def test_a_wrong_field_is_named(data: bytes, field: str, message: str) -> None:
    """The error says which field is wrong and why."""
    with pytest.raises(InvalidFields) as caught:
        decode.body(DECODER, data)
    assert caught.value.errors == [FieldError(field, message)]


def test_an_error_does_not_repeat_what_was_sent() -> None:
    """Neither values nor odd names of fields come back: they may be secret, huge or hostile."""
    secret = "hunter2-" * 100
    for body in (
        {"input": "a", "priority": secret},
        {"input": "a", "agent": secret},
        {"input": "a", secret: 1},
        {"input": "a", f"{secret} - at `$.input": 1},
        {"input": "a", f"x - at `{secret}": 1},
    ):
        with pytest.raises(InvalidRequest) as caught:
            decode.body(DECODER, msgspec.json.encode(body))
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{'input': 1}",
        b'{"input":"a"} x',
        b'\xef\xbb\xbf{"input":"a"}',
        b'{"input":"a","deadline_s":NaN}',
        b'{"input":"a","metadata":{"x":Infinity}}',
        b'{"input":"a","metadata":{"x":1e400}}',
        b'{"input":"a","metadata":{"x":' + b"9" * 100_000 + b"}}",
        b'{"input":"a","deadline_s":' + b"9" * 100_000 + b"}",
        b'{"input":"\\ud800"}',
        b'{"input":"\\udc00x"}',
        b'{"input":"\xed\xa0\x80"}',
        b'{"input":"\xff"}',
        b'{"\xff":"a"}',
        b'{"input":"a\x00"}',
        b'{"input":"a","metadata":{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
        b"[" * 200_000,
    ],
    ids=range(18),
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    """Broken, endless, deep or not encodable JSON is the caller's mistake and never a defect."""
    with pytest.raises(InvalidRequest):
        decode.body(DECODER, data)


def test_nesting_has_a_limit() -> None:
    """As deep as allowed passes, one level more does not; brackets in text are text."""
    assert decode.body(DECODER, _nested(decode.MAX_DEPTH - 2)).metadata
    with pytest.raises(InvalidRequest, match="nested"):
        decode.body(DECODER, _nested(decode.MAX_DEPTH - 1))
    brackets = "[{" * 1000
    assert decode.body(DECODER, msgspec.json.encode({"input": brackets})).input == brackets


def test_depth_counts_structs_lists_and_objects() -> None:
    """Every kind of nesting counts."""

    class Box(Struct):
        inner: Any

    assert decode.depth(1) == 0
    assert decode.depth({}) == 1
    assert decode.depth(Box([{"a": (1,)}])) == 4


def test_a_query_becomes_a_struct() -> None:
    """Text becomes numbers, and what is left out has its default."""
    assert decode.query(PageQuery, {"limit": "10"}) == PageQuery(limit=10)
    assert decode.query(WaitQuery, {"wait_s": "1.5"}) == WaitQuery(wait_s=1.5)
    assert decode.query(WaitQuery, {}) == WaitQuery()


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [
        (PageQuery, {"limit": "0"}),
        (PageQuery, {"limit": "1001"}),
        (PageQuery, {"limit": "x"}),
        (PageQuery, {"limit": ""}),
        (PageQuery, {"limit": "9" * 5000}),
        (PageQuery, {"more": "1"}),
        (WaitQuery, {"wait_s": "61"}),
        (WaitQuery, {"wait_s": "-1"}),
        (WaitQuery, {"wait_s": "nan"}),
        (WaitQuery, {"wait_s": "inf"}),
    ],
)
def test_a_wrong_query_is_refused(kind: type[Any], pairs: dict[str, str]) -> None:
    """Limits hold in a query, and it has no unknown parameters."""
    with pytest.raises(InvalidRequest):
        decode.query(kind, pairs)


def test_a_parameter_given_twice_is_refused() -> None:
    """Two values for one parameter are not guessed about."""
    with pytest.raises(InvalidRequest, match="twice"):
        decode.query(PageQuery, MultiDict([("limit", "1"), ("limit", "2")]))


@pytest.mark.parametrize("text", ["", "../", "{}", ":", "*", "a b", "a\n", "a\x00", "é", "a" * 65])
def test_an_id_has_one_form(text: str) -> None:
    """What is not an id never becomes a key."""
    with pytest.raises(InvalidRequest):
        decode.identifier(text, "session_id")


def _nested(levels: int) -> bytes:
    return b'{"input":"a","metadata":{"x":' + b"[" * levels + b"]" * levels + b"}}"
