from __future__ import annotations

from typing import Any

import pytest

from pool.agents.mcp_schema import Checker
from pool.agents.tool_errors import BadArguments
from pool.errors import ConfigError

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}, "to": {"$ref": "#/$defs/Place"}},
    "required": ["n"],
    "additionalProperties": False,
    "$defs": {"Place": {"enum": ["here", "there"]}},
}


@pytest.mark.parametrize("arguments", [{"n": 1}, {"n": 2, "to": "here"}])
def test_arguments_that_fit_are_let_through(arguments: dict[str, Any]) -> None:
    """Nothing is said of them."""
    Checker("t", SCHEMA).check(arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, r"\$: 'n' is a required property"),
        ({"n": "1"}, r"\$\.n: '1' is not of type 'integer'"),
        ({"n": 0}, r"\$\.n: 0 is less than the minimum of 1"),
        ({"n": 1, "to": "mars"}, r"\$\.to: 'mars' is not one of"),
        ({"n": 1, "more": True}, "Additional properties are not allowed"),
    ],
)
def test_others_are_refused_with_their_place(arguments: dict[str, Any], said: str) -> None:
    """The model is told where it is wrong, and how."""
    with pytest.raises(BadArguments, match=f"invalid arguments: .*{said}"):
        Checker("t", SCHEMA).check(arguments)


def test_what_is_wrong_is_told_in_few_words() -> None:
    """An argument of any size is not repeated whole."""
    with pytest.raises(BadArguments) as raised:
        Checker("t", SCHEMA).check({"n": "x" * 100_000})
    assert len(str(raised.value)) == 1_000


@pytest.mark.parametrize("schema", [{"type": "thing"}, {"properties": 7}])
def test_what_is_no_schema_is_a_mistake(schema: dict[str, Any]) -> None:
    """It is told when the agent is configured."""
    with pytest.raises(ConfigError, match="is no JSON schema"):
        Checker("t", schema)


@pytest.mark.parametrize(
    "reference", ["https://evil.example/schema.json", "file:///etc/passwd", "#/$defs/Gone"]
)
def test_a_reference_leads_nowhere_else(reference: str) -> None:
    """Nothing is fetched to check an argument: what cannot be resolved is refused."""
    checker = Checker("t", {"type": "object", "properties": {"n": {"$ref": reference}}})
    with pytest.raises(BadArguments, match="cannot be checked"):
        checker.check({"n": 1})


def test_a_schema_without_end_is_no_end_of_the_process() -> None:
    """One that leads back to itself is given up."""
    with pytest.raises(BadArguments, match="cannot be checked"):
        Checker("t", {"$ref": "#"}).check({})


def test_older_drafts_are_understood() -> None:
    """A schema that says which draft it is written in is read so."""
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1}
    Checker("t", old | {"type": "object"}).check({})
    with pytest.raises(ConfigError):
        Checker("t", old | {"exclusiveMinimum": 1})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string", "pattern": "^(a+)+$"}, "a" * 60 + "!"),
        (
            {"type": "array", "uniqueItems": True},
            [[i] if i % 2 else {"a": i} for i in range(9_000)],
        ),
    ],
    ids=["pattern", "uniqueItems"],
)
def test_no_schema_makes_the_check_endless(schema, value):
    """What may take for ever to check is left to the server."""
    Checker("t", {"type": "object", "properties": {"q": schema}}).check({"q": value})


def test_a_schema_of_properties_by_pattern_is_refused():
    """Names of properties are not matched with somebody else's regular expressions."""
    with pytest.raises(ConfigError, match="patternProperties"):
        Checker("t", {"type": "object", "allOf": [{"patternProperties": {"^(a+)+$": {}}}]})


def test_a_part_of_a_schema_has_no_dialect_of_its_own():
    """It would be checked by that one, with its regular expressions; a property may be so named."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    schema = {"type": "object", "properties": {"$schema": {"type": "string"}}}
    Checker("t", {"$schema": dialect} | schema).check({"$schema": "x"})
    with pytest.raises(ConfigError, match=r"another \$schema within"):
        Checker("t", {"type": "object", "properties": {"q": {"$schema": dialect}}})
