"""A function's parameters as a struct: their JSON schema, and arguments checked against it."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from pool.errors import ConfigError

_SECTION: Final = re.compile(
    r"^(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?):\s*$"
)
_PARAMETER: Final = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_PLAIN: Final = (type(None), bool, int, float, str)


class Doc(Struct, frozen=True):
    """A docstring: its first paragraph, and what its `Args:` say of each parameter."""

    summary: str
    parameters: dict[str, str]


def read_doc(function: Callable[..., Any]) -> Doc:
    """The function's docstring, taken apart; Google style."""
    text = inspect.getdoc(function) or ""
    summary = " ".join(text.split("\n\n", 1)[0].split())
    return Doc("" if _SECTION.match(summary) else summary, _parameters(text.splitlines()))


def hints_of(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """The function's type hints; `ConfigError` if a name in them is not known at run time."""
    code = function if inspect.isroutine(function) else type(function).__call__
    try:
        return typing.get_type_hints(code, include_extras=True)
    except NameError as error:
        remedy = f"its hint {error.name} is not known at run time: import it outside TYPE_CHECKING"
        raise ConfigError("tools", name, remedy) from None


def arguments_of(
    name: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], doc: Doc
) -> type[Struct]:
    """A struct type with a field for each parameter; UNSET stands for one that was left out."""
    fields = [_field(name, parameter, hints, doc) for parameter in parameters.values()]
    try:
        return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    except TypeError:
        raise ConfigError(
            "tools", name, "its parameters' names cannot be used: rename them"
        ) from None


def schema_of(arguments: type[Struct]) -> dict[str, Any]:
    """The JSON schema of an object with the struct's fields."""
    try:
        (top,), definitions = msgspec.json.schema_components(
            [arguments], ref_template="#/$defs/{name}"
        )
    except TypeError:
        remedy = "a parameter has no JSON schema: use builtin types, dataclasses or structs"
        raise ConfigError("tools", arguments.__name__, remedy) from None
    schema = definitions.pop(top["$ref"].removeprefix("#/$defs/"))
    schema.pop("title", None)
    return {**schema, "$defs": definitions} if definitions else schema


def _field(
    name: str, parameter: inspect.Parameter, hints: Mapping[str, Any], doc: Doc
) -> tuple[str, Any] | tuple[str, Any, Any]:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise ConfigError(
            "tools", name, f"it takes {parameter}: give each parameter a name of its own"
        )
    hint = hints.get(parameter.name, Any)
    default = parameter.default
    shown = {"default": default} if isinstance(default, _PLAIN) else None
    description = doc.parameters.get(parameter.name)
    if description or shown:
        hint = Annotated[hint, Meta(description=description, extra_json_schema=shown)]
    if default is parameter.empty:
        return parameter.name, hint
    return parameter.name, hint | UnsetType if hint is not Any else Any, UNSET


def _parameters(lines: list[str]) -> dict[str, str]:
    """What the `Args:` section says; a line indented further goes on with the one before."""
    found: dict[str, str] = {}
    inside, indent, current = False, 0, ""
    for line in lines:
        text = line.strip()
        if section := _SECTION.match(text):
            inside, indent = section[1] in ("Args", "Arguments", "Parameters"), 0
            continue
        if not inside or not text:
            continue
        depth = len(line) - len(line.lstrip())
        indent = indent or depth
        if depth < indent or depth == 0:
            inside = False
        elif depth > indent and current:
            found[current] = f"{found[current]} {text}".strip()
        elif entry := _PARAMETER.match(text):
            current = entry[1]
            found[current] = entry[2]
    return found
