"""Arguments checked against the JSON schema that an MCP server gave for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from jsonschema import SchemaError  # type: ignore[import-untyped]
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
from jsonschema.validators import Draft202012Validator, validator_for  # type: ignore[import-untyped]
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
        # an empty registry: a reference leads nowhere but into the schema itself
        self._validator = kind(schema, registry=Registry())

    def check(self, arguments: Mapping[str, Any]) -> None:
        """`BadArguments` unless they fit."""
        try:
            flaw = best_match(self._validator.iter_errors(arguments))
        except (Unresolvable, RecursionError) as error:
            told = f"they cannot be checked ({type(error).__name__})"
            raise BadArguments(f"invalid arguments: {told}") from None
        if flaw is not None:
            raise BadArguments(f"invalid arguments: {flaw.json_path}: {flaw.message}"[:_FLAW_CHARS])
