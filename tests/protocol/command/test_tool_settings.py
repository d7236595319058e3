"""The rules about tools, as a file says them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pool.agent import ToolCall
from pool.errors import ConfigError
from pool.guard.gate import RulesGate
from pool.guard.tool_rules import ToolRules
from pool.turn import Principal
from protocol.command.sources import from_file
from protocol.settings import assemble

DOCUMENT = Path(__file__).parents[3] / "docs/configuration.md"


def rules_in(directory: Path, text: str) -> ToolRules:
    """The rules that a server with this file has."""
    path = directory / "actorpool.toml"
    path.write_text(text)
    return assemble(from_file(path, named_by="--config")).tools


def test_the_documents_example_does_what_it_says(tmp_path: Path) -> None:
    """Lists, risks and rules come out of the file as they are meant."""
    section = DOCUMENT.read_text().split("## `[tools]`")[1]
    example = re.split(r"```(?:toml)?\n", section)[1]
    gate = RulesGate(rules_in(tmp_path, example), "helper")

    def said(tool: str, *roles: str, **arguments: str) -> str:
        return gate(Principal("t", "ann", roles), ToolCall("c1", tool, arguments)).action

    assert said("search", "user") == "allow"
    assert said("write_file", "user", path="/srv/drafts/a") == "deny"
    assert said("write_file", "editor", path="/srv/drafts/a") == "allow"
    assert said("write_file", "editor", path="/srv/drafts/../a") == "deny"
    assert said("mail", "editor") == "ask"
    decision = gate(Principal("t", "ann", ("editor",)), ToolCall("c1", "mail"))
    assert decision.deciders == ("editor-in-chief",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tools]\nrole = {}", "did you mean roles"),
        ('[tools.risks]\ndrop = "danger"', "tools.risks"),
        ('[tools.roles]\nuser = "search"', "tools.roles"),
        ('[[tools.approvals]]\nthen = "ask"\ntool = ["a"]', "unknown field `tool`"),
        ('[[tools.approvals]]\ntools = ["a"]', "missing required field `then`"),
        (
            '[[tools.approvals]]\nthen = "deny"\ndeciders = ["boss"]',
            "tools.approvals.0.deciders",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    """The error says where it is, down to the rule."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        rules_in(tmp_path, text)
