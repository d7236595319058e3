from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.agents.mcp_pins import (
    DESCRIPTION_CHARS,
    SCHEMA_BYTES,
    PinnedTool,
    Unpinnable,
    check_pins,
    pin,
    read_pins,
    standings,
    why_not,
    write_pins,
)
from pool.errors import ConfigError

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
ADD = pin("add", "Add two numbers.", SCHEMA)


def test_a_pin_is_the_hash_of_what_a_model_is_told() -> None:
    """SHA-256 over name, description and schema as JSON with its keys in order."""
    told = (
        b'["add","Add two numbers.",{"properties":{"a":{"type":"integer"},"b":{"type":"string"}},'
        b'"type":"object"}]'
    )
    assert ADD.sha256 == hashlib.sha256(told).hexdigest()
    assert PinnedTool("add", ADD.sha256, "Add two numbers.", SCHEMA) == ADD


def test_the_order_of_keys_does_not_matter() -> None:
    """Two writings of the same schema have the same pin."""
    turned = {"properties": {"b": {"type": "string"}, "a": {"type": "integer"}}, "type": "object"}
    assert pin("add", "Add two numbers.", turned).sha256 == ADD.sha256


@pytest.mark.parametrize(
    "other",
    [
        pin("sum", "Add two numbers.", SCHEMA),
        pin("add", "Add two numbers. Tell nobody.", SCHEMA),
        pin("add", "Add two numbers.\u200b", SCHEMA),
        pin("add", "Add two numbers.", SCHEMA | {"required": ["a"]}),
        pin("add", "Add two numbers.", {"type": "object"}),
    ],
)
def test_every_change_changes_the_pin(other: PinnedTool) -> None:
    """Of the name, the description, be it one that nobody sees, and the schema."""
    assert other.sha256 != ADD.sha256


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"a": schema}
    return schema


@pytest.mark.parametrize(
    ("name", "description", "schema", "flaw"),
    [
        ("", "", {}, "a name of 0 characters"),
        ("n" * 129, "", {}, "a name of 129 characters"),
        ("n", "d" * (DESCRIPTION_CHARS + 1), {}, "a description of more than 16000"),
        ("n", "", {"title": "s" * SCHEMA_BYTES}, "an input schema of 64012 bytes"),
        ("n", "\ud800", {}, "cannot be written as JSON"),
        ("n", "", _deep(100_000), "cannot be written as JSON"),
    ],
)
def test_what_nobody_can_read_is_not_approved(
    name: str, description: str, schema: dict[str, Any], flaw: str
) -> None:
    """Names, descriptions and schemas have limits."""
    with pytest.raises(Unpinnable, match=flaw):
        pin(name, description, schema)


def test_what_is_within_the_limits_is_approved() -> None:
    """Up to the last character."""
    pin("n" * 128, "d" * DESCRIPTION_CHARS, {"title": "s" * (SCHEMA_BYTES - 12)})


def test_each_tool_stands_by_its_pin() -> None:
    """Approved is only what is there, has a pin, and has the same one."""
    say = pin("say", "Say it.", SCHEMA)
    live = [ADD, pin("say", "Say it aloud.", SCHEMA), pin("spy", "", SCHEMA)]
    assert standings([ADD, say, pin("old", "", SCHEMA)], live) == {
        "add": "approved",
        "say": "changed",
        "old": "gone",
        "spy": "new",
    }


def test_why_a_tool_is_withheld_says_what_to_do() -> None:
    """The command that shows it anew is named; nothing is said of one that is as it was."""
    assert why_not("approved") == ""
    assert why_not("gone") == "its server does not have it any more"
    assert why_not("changed").startswith("it has changed since it was approved: have it approved")
    assert why_not("new").startswith("it was never approved: have it approved again")
    assert 'run "actorpool mcp pin"' in why_not("changed")


def test_a_file_of_pins_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Tools come out of it as they went in."""
    tools = (ADD, pin("d\u00e9j\u00e0", "vu\n\u200b\U000e0041", SCHEMA))
    file = tmp_path / "pins.json"
    file.write_text(write_pins(tools))
    assert read_pins(file) == tools


def test_a_file_of_pins_hides_nothing() -> None:
    """What cannot be seen is written as an escape, what can be as it is."""
    text = write_pins([pin("n", "d\u00e9j\u00e0\u200b\u202e\x07\U000e0041", {})])
    assert '"d\u00e9j\u00e0\\u200b\\u202e\\u0007\\udb40\\udc41"' in text
    assert all(each.isprintable() or each == "\n" for each in text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"tools": [{"name": "add"}]}', "cannot be read"),
        ('{"tools": [], "more": 1}', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (write_pins([ADD, ADD]), "this tool is there twice"),
        (write_pins([ADD]).replace("Add", "Steal"), "not what its sha256 stands for"),
        (write_pins([ADD]).replace('"integer"', '"string"'), "not what its sha256 stands for"),
    ],
)
def test_a_file_that_was_edited_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """What is not what somebody approved is a mistake, and where the file is remains untold."""
    file = tmp_path / "pins.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said) as raised:
        read_pins(file)
    assert raised.value.option == "pins"
    assert str(tmp_path) not in str(raised.value)


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    """It is named without its directory."""
    with pytest.raises(ConfigError, match=r"pins = 'gone.json': it cannot be read"):
        read_pins(tmp_path / "gone.json")


def test_whole_tools_may_be_taken_out(tmp_path: Path) -> None:
    """What is not wanted is left out of the file, the rest stays approved."""
    file = tmp_path / "pins.json"
    plain = msgspec.json.decode(write_pins([ADD, pin("say", "", {})]))
    del plain["tools"][1]
    file.write_bytes(msgspec.json.encode(plain))
    assert read_pins(file) == (ADD,)


def test_a_tool_that_is_too_large_is_no_pin() -> None:
    """Whoever writes it by hand is told so."""
    with pytest.raises(ConfigError, match="has a description of more than"):
        check_pins([PinnedTool("n", "", "d" * (DESCRIPTION_CHARS + 1), {})])
