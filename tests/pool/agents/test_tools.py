"""Functions as tools: what the model is told of them, and what it may pass."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
from msgspec import Struct

from pool.agent import Context, ToolCall
from pool.agents.threads import Threads
from pool.agents.tool_errors import BadArguments
from pool.agents.tools import Tool, read_tools
from pool.errors import ConfigError
from tests.support.context import RecordingContext

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypes


class Place(Struct):
    """Where something is."""

    lat: float
    lon: float


@dataclass
class Options:
    """How to look."""

    deep: bool = False


async def search(
    query: str,
    place: Place,
    limit: int = 10,
    unit: Literal["km", "mi"] | None = None,
    tags: list[str] = [],  # noqa: B006 - as users write it
    options: Options | None = None,
    anything: Any = None,
    *,
    ctx: Context,
    call: ToolCall,
) -> dict[str, Any]:
    """Find things
    near a place.

    More that the model need not know.

    Args:
        query: what to look for,
            in any language
        place (Place): around here
        limit: how many: at most
        nobody: not a parameter

    Returns:
        unit: not a parameter's description
    """
    return {"query": query, "limit": limit, "tags": tags, "of": f"{ctx.turn_id}/{call.call_id}"}


async def run(tool: Tool, arguments: dict[str, Any]) -> Any:
    """Check the arguments and call the tool."""
    threads = Threads("tool")
    try:
        call = ToolCall("s1c0", tool.name, arguments)
        return await tool.run(tool.check(arguments), call, RecordingContext(), threads)
    finally:
        threads.stop()


def test_schema_comes_from_hints_and_docstring():
    """The first paragraph describes the tool, `Args:` its parameters, hints their types."""
    schema = Tool(search).schema

    assert (schema.name, schema.description) == ("search", "Find things near a place.")
    place = {
        "title": "Place",
        "description": "Where something is.",
        "type": "object",
        "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
        "required": ["lat", "lon"],
    }
    assert schema.parameters["$defs"]["Place"] == place
    properties = schema.parameters["properties"]
    assert properties["query"] == {
        "description": "what to look for, in any language",
        "type": "string",
    }
    assert properties["place"] == {"description": "around here", "$ref": "#/$defs/Place"}
    assert properties["limit"] == {
        "description": "how many: at most",
        "default": 10,
        "type": "integer",
    }
    assert properties["tags"] == {"type": "array", "items": {"type": "string"}}
    assert properties["anything"] == {"default": None}
    assert schema.parameters["required"] == ["query", "place"]
    assert schema.parameters["additionalProperties"] is False
    assert "ctx" not in properties
    assert "call" not in properties


async def test_arguments_are_made_what_the_hints_say():
    """Checked arguments are what the hints want, what was left out has its default."""

    async def kind(place: Place, names: tuple[str, ...] = ("a",)) -> str:
        return f"{type(place).__name__} {names}"

    assert await run(Tool(kind), {"place": {"lat": 1, "lon": 2}}) == "Place ('a',)"


async def test_context_and_call_are_handed_over():
    """A tool gets the turn's context and its own call where it asks for them."""
    result = await run(Tool(search), {"query": "x", "place": {"lat": 1, "lon": 2}, "limit": 3})

    assert result == {"query": "x", "limit": 3, "tags": [], "of": "t1/s1c0"}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "Object missing required field `query`"),
        ({"query": 3, "place": {"lat": 1, "lon": 2}}, "Expected `str`, got `int` - at `$.query`"),
        ({"query": "x", "place": {"lat": "a", "lon": 2}}, "at `$.place.lat`"),
        ({"query": "x", "place": {"lat": 1, "lon": 2}, "unit": "m"}, "Invalid enum value 'm'"),
        ({"query": "x", "place": {"lat": 1, "lon": 2}, "ctx": {}}, "unknown field `ctx`"),
    ],
)
def test_invalid_arguments_say_what_is_wrong(arguments, problem):
    """Arguments that do not fit are refused with the place and the reason."""
    with pytest.raises(BadArguments) as bad:
        Tool(search).check(arguments)

    assert str(bad.value).startswith("invalid arguments: ")
    assert problem in str(bad.value)


@pytest.mark.real_time
async def test_synchronous_tool_runs_in_a_thread():
    """A function that is not async does not run on the loop's thread."""

    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    assert await run(Tool(where), {}) is False


async def test_methods_and_callable_objects_are_tools():
    """A bound method is a tool, and so is a callable object that is given a name."""

    class Shop:
        def __init__(self, stock: int) -> None:
            self.stock = stock

        async def left(self, sold: int) -> int:
            """How many are left."""
            return self.stock - sold

        async def __call__(self, sold: int) -> int:
            return -sold

    assert await run(Tool(Shop(5).left), {"sold": 2}) == 3
    assert await run(Tool(Shop(5), name="shop-left"), {"sold": 2}) == -2


def test_function_without_hints_or_docstring_is_a_tool():
    """Nothing is known of it but its parameters' names."""

    def bare(a, b=3):
        return a

    schema = Tool(bare).schema

    assert schema.description == ""
    assert schema.parameters == {
        "type": "object",
        "properties": {"a": {}, "b": {"default": 3}},
        "required": ["a"],
        "additionalProperties": False,
    }


class Custom:
    """A type without a schema."""


def takes_custom(value: Custom) -> None:
    """Not describable."""


def takes_many(*values: int) -> None:
    """Any number of arguments."""


def takes_positional(value: int, /) -> None:
    """No name to give the argument by."""


def takes_hidden(value: OnlyForTypes) -> None:
    """A hint that only type checkers know."""


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ([takes_custom], "a parameter has no JSON schema"),
        ([takes_many], "give each parameter a name of its own"),
        ([takes_positional], "give each parameter a name of its own"),
        ([takes_hidden], "import it outside TYPE_CHECKING"),
        ([search, search], "two tools have this name"),
        ([lambda: 1], "a tool is a function whose name"),
        ([functools.partial(takes_many, 1)], "a tool is a function whose name"),
        ([42], "a tool is a function whose name"),
    ],
    ids=["custom", "many", "positional", "hidden", "twice", "lambda", "partial", "number"],
)
def test_what_cannot_be_a_tool_is_refused(given, remedy):
    """The error names the tool and says what to do."""
    with pytest.raises(ConfigError) as refused:
        read_tools(given)

    assert refused.value.option == "tools"
    assert remedy in refused.value.remedy
