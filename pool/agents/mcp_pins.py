"""The tools of an MCP server that were approved, and whether it still has these very tools.

What a model is told of a tool comes from here, never from the server: a description that changes
reaches no model before somebody has read and approved it. A pin is the SHA-256 of a tool's name,
description and input schema. Pure, but for `read_pins`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from pool.errors import ConfigError

# What may be approved at most: a description is read by a human, and costs tokens in each turn.
NAME_CHARS: Final = 128
DESCRIPTION_CHARS: Final = 16_000
SCHEMA_BYTES: Final = 64_000

# What to do about a tool that is not as it was approved.
AGAIN: Final = 'have it approved again: run "actorpool mcp pin" for the server, read what it prints'

Standing = Literal["approved", "changed", "gone", "new"]


class PinnedTool(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool as it was approved; `sha256` is its pin."""

    name: str
    sha256: str
    description: str
    input_schema: dict[str, Any]


class Unpinnable(ValueError):
    """What keeps a tool from being approved, as the rest of a sentence that names it."""


class _File(Struct, forbid_unknown_fields=True):
    tools: tuple[PinnedTool, ...]


def pin(name: str, description: str, input_schema: Mapping[str, Any]) -> PinnedTool:
    """Pin a tool as a server describes it. `Unpinnable` if that is no fit description."""
    if not 0 < len(name) <= NAME_CHARS:
        raise Unpinnable(f"has a name of {len(name)} characters: 1 to {NAME_CHARS} are allowed")
    if len(description) > DESCRIPTION_CHARS:
        raise Unpinnable(f"has a description of more than {DESCRIPTION_CHARS} characters")
    try:
        digest = _digest(name, description, input_schema)
        size = len(msgspec.json.encode(input_schema))
    except (TypeError, ValueError, RecursionError):
        raise Unpinnable("has a description that cannot be written as JSON") from None
    if size > SCHEMA_BYTES:
        raise Unpinnable(f"has an input schema of {size} bytes: {SCHEMA_BYTES} are allowed")
    return PinnedTool(name, digest, description, dict(input_schema))


def standings(pins: Iterable[PinnedTool], live: Iterable[PinnedTool]) -> dict[str, Standing]:
    """How each tool, approved or not, stands by what the server has now."""
    has = {tool.name: tool.sha256 for tool in live}
    found: dict[str, Standing] = {}
    for tool in pins:
        sha256 = has.pop(tool.name, None)
        found[tool.name] = (
            "gone" if sha256 is None else "approved" if sha256 == tool.sha256 else "changed"
        )
    return found | dict.fromkeys(has, "new")


def why_not(standing: Standing) -> str:
    """Why a tool that stands so may not be called, and what to do; "" if it may be."""
    if standing == "approved":
        return ""
    if standing == "gone":
        return "its server does not have it any more"
    said = "has changed since it was approved" if standing == "changed" else "was never approved"
    return f"it {said}: {AGAIN}"


def read_pins(path: str | Path) -> tuple[PinnedTool, ...]:
    """The tools approved in a file that `actorpool mcp pin` printed. `ConfigError` if it cannot be
    read, or was edited: leaving out whole tools is the only change it may have.
    """
    shown = Path(path).name
    try:
        tools = msgspec.json.decode(Path(path).read_bytes(), type=_File).tools
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        remedy = f'it cannot be read ({type(error).__name__}): write it with "actorpool mcp pin"'
        raise ConfigError("pins", shown, remedy) from None
    check_pins(tools)
    return tools


def check_pins(tools: Sequence[PinnedTool]) -> None:
    """`ConfigError` unless each tool is the one that its pin was made of, and is there once."""
    seen: set[str] = set()
    for tool in tools:
        if tool.name in seen:
            raise ConfigError("pins", tool.name, "this tool is there twice: take one of them out")
        seen.add(tool.name)
        try:
            fits = pin(tool.name, tool.description, tool.input_schema).sha256 == tool.sha256
        except Unpinnable as flaw:
            raise ConfigError("pins", tool.name[:NAME_CHARS], f"this tool {flaw}") from None
        if not fits:
            raise ConfigError("pins", tool.name, f"it is not what its sha256 stands for: {AGAIN}")


def write_pins(tools: Sequence[PinnedTool]) -> str:
    """The file that `read_pins` reads, for humans to read first: characters that cannot be seen are
    written as escapes.
    """
    plain = {"tools": msgspec.to_builtins(tools)}
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    shown = "".join(each if each.isprintable() or each == "\n" else _escape(each) for each in text)
    return f"{shown}\n"


def _escape(character: str) -> str:
    return json.dumps(character)[1:-1]


def _digest(name: str, description: str, input_schema: Mapping[str, Any]) -> str:
    canonical = msgspec.json.encode([name, description, input_schema], order="sorted")
    return hashlib.sha256(canonical).hexdigest()
