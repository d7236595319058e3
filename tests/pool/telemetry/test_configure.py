"""`configure` belongs to a process of its own: each test runs one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

SECRET = "canary-77aa"
ROOT = Path(__file__).parents[3]

PROGRAM = """
import asyncio, logging, sys
import structlog
from pool import AgentPool
from pool.telemetry.logs import configure
from pool.telemetry.processors import loop_exception_handler

SECRET = "canary-" + "77aa"
redact = None
if "redact" in sys.argv:
    from pool.guard.privacy import Privacy
    from pool.guard.privacy_config import PrivacyConfig
    redact = Privacy(PrivacyConfig(default="logs", kinds=()), known=(SECRET,)).logs
logs, lines = configure(format=sys.argv[1], level=sys.argv[2], redact=redact)
log = structlog.get_logger("app")

def fail(text):
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ValueError(text) from error

async def agent(text):
    log.warning("seen")
    log.debug("detail")
    try:
        fail(text)
    except ValueError:
        log.exception("it failed")
        logging.getLogger("asyncio").error("broken\\n" + text, exc_info=True)
        logging.getLogger("aiohttp.server").error("from %s", text)
        logging.getLogger("theirs").warning("hello %s", "world")
        logging.getLogger("theirs").info("does not fit %d", "x")
        logging.getLogger("theirs").log(25, "between levels")
    log.warning("an object", thing=object())
    raise ValueError(text)

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_exception_handler(log))
    async with AgentPool(agent, observers=[logs]) as pool:
        try:
            await pool.ask(SECRET, session="s1", request_id="r1")
        except Exception as error:
            pass
        async def stray():
            raise ValueError(SECRET)
        def callback(text):
            raise ValueError(text)
        loop.call_soon(callback, SECRET)
        task = loop.create_task(stray(), name="stray")
        await asyncio.wait([task])
        del task
    log.warning("outside")

asyncio.run(main())
lines.flush()
"""


def run(format_: str, level: str, *more: str) -> str:
    """What the program writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, format_, level, *more],
        cwd=ROOT,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stderr.decode()


def json_lines(level: str) -> dict[str, dict[str, Any]]:
    """The lines of a JSON log by what they tell."""
    lines = [msgspec.json.decode(line) for line in run("json", level).splitlines()]
    return {line["event"]: line for line in lines}


def test_lines_made_in_a_turn_name_it() -> None:
    """An agent's own lines carry its turn, session and request; those outside of turns do not."""
    lines = json_lines("info")
    turn = lines["turn ended"]
    assert turn["state"] == "failed"
    assert lines["seen"]["turn_id"] == turn["turn_id"]
    assert lines["seen"]["session_id"] == "s1"
    assert lines["seen"]["request_id"] == "r1"
    assert lines["seen"]["agent"] == "agent"
    assert "turn_id" not in lines["outside"]


def test_an_exception_is_its_types_and_places() -> None:
    """Exceptions in structlog's lines and in logging's are told by kind and place, not by text."""
    lines = json_lines("info")
    assert lines["it failed"]["exception"] == "ValueError from KeyError"
    assert lines["it failed"]["frames"][-1].startswith("__main__:fail:")
    assert lines["broken"]["exception"] == "ValueError from KeyError"


def test_messages_of_libraries_that_quote_are_cut() -> None:
    """asyncio and aiohttp put requests and exceptions into their messages: the fixed words stay."""
    lines = json_lines("info")
    assert "from %s" in lines
    assert "hello world" in lines
    assert lines["between levels"]["level"] == "info"


def test_what_nobody_caught_is_logged() -> None:
    """The loop's handler names the task or callback, and the kind of its exception."""
    lines = json_lines("info")
    line = lines["Task exception was never retrieved"]
    assert (line["task"], line["exception"]) == ("stray", "ValueError")
    line = lines["Exception in callback"]
    assert line["exception"] == "ValueError"
    assert line["frames"][-1].startswith("__main__:callback:")


def test_a_secret_reaches_no_log() -> None:
    """At info, in neither format, does any line hold what was said or what an exception says."""
    assert SECRET not in run("json", "info")
    assert SECRET not in run("console", "info")


def test_debug_is_where_texts_are() -> None:
    """The one level at which an operator asks for whole exceptions gives them, in both formats."""
    assert SECRET in run("json", "debug")
    assert SECRET in run("console", "debug")


@pytest.mark.parametrize("format_", ["json", "console"])
def test_what_is_redacted_is_not_even_in_texts(format_: str) -> None:
    """Debug still gives whole exceptions, but for what was to be taken out of them."""
    text = run(format_, "debug", "redact")
    assert SECRET not in text
    assert "ValueError: [secret-1]" in text
    assert "<object>" in text and "turn ended" in text


def test_values_that_json_does_not_know_are_named() -> None:
    """An object becomes its type's name; a message that does not fit its arguments stays."""
    lines = json_lines("info")
    assert lines["an object"]["thing"] == "<object>"
    assert "does not fit %d (its arguments do not fit)" in lines


def test_auto_is_json_where_nobody_looks() -> None:
    """Standard error being a pipe, every line is JSON."""
    for line in run("auto", "info").splitlines():
        msgspec.json.decode(line)


def test_the_level_holds() -> None:
    """Below the level nothing is written."""
    assert "detail" not in json_lines("info")
    assert "seen" not in json_lines("error")
