"""Arguments checked against the JSON schema that an MCP server gave for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from jsonschema import SchemaError  # type: ignore[import-untyped]
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
from jsonschema.validators import (  # type: ignore[import-untyped]
    Draft202012Validator,
    extend,
    validator_for,
)
from referencing import Registry
from referencing.exceptions import Unresolvable

from pool.agents.tool_errors import BadArguments
from pool.errors import ConfigError

_FLAW_CHARS: Final = 1_000


class Checker:
    """Checks the arguments of one tool. `ConfigError` if its schema is none."""

    def __init__(self, tool: str, schema: Mapping[str, Any]) -> None:
        kind = validator_for(schema, default=Draft202012Validator)
        try:
            kind.check_schema(schema)
        except (SchemaError, RecursionError):
            remedy = "its input schema is no JSON schema: take it out of the approved tools"
            raise ConfigError("pins", tool, remedy) from None
        if word := _unfit_word(schema):
            remedy = f"its input schema has {word}: take it out of the approved tools"
            raise ConfigError("pins", tool, remedy)
        # an empty registry: a reference leads nowhere but into the schema itself
        self._validator = extend(kind, _UNCHECKED)(schema, registry=Registry())

    def check(self, arguments: Mapping[str, Any]) -> None:
        """`BadArguments` unless they fit."""
        try:
            flaw = best_match(self._validator.iter_errors(arguments))
        except (Unresolvable, RecursionError) as error:
            told = f"they cannot be checked ({type(error).__name__})"
            raise BadArguments(f"invalid arguments: {told}") from None
        if flaw is not None:
            raise BadArguments(f"invalid arguments: {flaw.json_path}: {flaw.message}"[:_FLAW_CHARS])


def _nothing(validator: Any, said: Any, value: Any, schema: Any) -> None:
    """Find no flaw."""


# Left to the server: a regular expression of somebody else's may take longer than anybody lives,
# and the event loop with it; so does comparing each item of a long list with each.
_UNCHECKED: Final = {"pattern": _nothing, "uniqueItems": _nothing}


def _unfit_word(schema: Mapping[str, Any]) -> str:
    """What in the schema, wherever it is, keeps it from being checked safely; or ""."""
    whole, *parts = _objects(schema)
    if any("patternProperties" in part for part in (whole, *parts)):
        return "patternProperties"
    # a part that has a dialect of its own is checked by that, with nothing left out
    if any(isinstance(part.get("$schema"), str) for part in parts):
        return "another $schema within"
    return ""


def _objects(schema: Any) -> Iterator[Mapping[str, Any]]:
    """All objects in the schema, itself first. However deep they are."""
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, Mapping):
            yield part
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)
