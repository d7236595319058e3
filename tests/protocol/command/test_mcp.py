"""The tools of MCP servers as operators approve of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pool.agents.mcp_pins import PinnedTool, pin, read_pins, write_pins
from protocol.command.cli_mcp import mcp
from tests.support.mcp_server import COMMAND, Tools, pins_of, running

PROGRAM = ("--env", "PYTHONPATH=.", "--", *COMMAND)


def run(*arguments: str) -> Result:
    """What the command does."""
    return CliRunner(env={"COLUMNS": "200"}).invoke(mcp, arguments, catch_exceptions=False)


def approved() -> tuple[PinnedTool, ...]:
    """The tools of the program."""

    async def ask() -> tuple[PinnedTool, ...]:
        return await pins_of(Tools())

    return asyncio.run(ask())


def test_pins_are_printed_to_be_read_and_kept(tmp_path: Path) -> None:
    """Standard output is the file; what to do with it is said beside it."""
    done = run("pin", *PROGRAM)
    assert done.exit_code == 0, done.stderr
    (tmp_path / "pins.json").write_text(done.stdout)
    assert read_pins(tmp_path / "pins.json") == approved()
    assert "[7 tools: who keeps this" in done.stderr


def test_what_is_as_it_was_approved_is_told_apart(tmp_path: Path) -> None:
    """Each tool has a line with how it stands, and why it is withheld; the code says if any is."""
    add, say, *others = approved()
    pins = (
        add,
        pin("say", "Say less.", say.input_schema),
        pin("gone", "", {}),
        *others[1:],
    )
    file = tmp_path / "pins.json"
    file.write_text(write_pins(pins))
    done = run("check", "--pins", str(file), *PROGRAM)
    lines = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
    assert done.exit_code == 1
    assert lines["add"] == ["approved", "-"]
    assert lines["say"][0] == "changed"
    assert "have it approved again" in lines["say"][1]
    assert lines["gone"] == ["gone", "its server does not have it any more"]
    assert lines["fail"][0] == "new"


def test_new_tools_harm_nobody(tmp_path: Path) -> None:
    """What was never approved is not offered: as long as the rest stands, all is well."""
    file = tmp_path / "pins.json"
    file.write_text(write_pins(approved()[:1]))
    assert run("check", "--pins", str(file), *PROGRAM).exit_code == 0


@pytest.mark.real_time
async def test_a_token_and_headers_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every request; the token may come from the environment."""
    monkeypatch.setenv("ACTORPOOL_MCP_TOKEN", "canary")
    async with running() as far:
        options = ("--header", "X-Team:  blue", "--allow-private", "--allow-http")
        done = await asyncio.to_thread(run, "pin", "--url", far.url, *options)
        assert done.exit_code == 0, done.stderr
        assert {seen["authorization"] for seen in far.seen} == {"Bearer canary"}
        assert {seen["x-team"] for seen in far.seen} == {"blue"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pin",), "give either a url or a command"),
        (("pin", "--url", "http://mcp.example/"), "must begin with https://"),
        (("pin", "--url", "https://127.0.0.1/"), "see allow_private"),
        (("pin", "--", "true"), "command = 'true': there is no connection to it: it closed the"),
        (
            ("pin", "--url", "http://127.0.0.1:1025/x", "--allow-private", "--allow-http"),
            "url = '...': there is no connection to it: it cannot be reached (ConnectError)",
        ),
        (("check", "--pins", "gone.json", "--", "true"), "pins = 'gone.json': it cannot be read"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    """It says what is wrong, and the command ends with 1."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.startswith("actorpool: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pin", "--header", "canary", "--url", "https://mcp.example"), "write a name, : and"),
        (("pin", "--env", "=x", "--", "true"), "write a name, = and a value"),
        (("check", "--", "true"), "Missing option '--pins'"),
    ],
)
def test_options_have_a_form(arguments: tuple[str, ...], said: str) -> None:
    """What cannot be read is refused as with any other command."""
    done = run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
