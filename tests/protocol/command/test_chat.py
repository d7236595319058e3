"""The conversation at a terminal, with a real server at the other end."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import web

from tests.protocol.command.test_serve import server
from tests.support.process import PATIENCE_S, ROOT, command, completed


class Terminal:
    """A process at a terminal of its own: what it shows, and a keyboard."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.shown = ""

    def wait_for(self, pattern: str) -> None:
        """Return once the pattern was shown; what came before it counts no more."""
        due = monotonic() + PATIENCE_S
        while not self._found(pattern):
            assert self._read(due - monotonic()), f"no {pattern!r} in {self.shown!r}"

    def interrupt_until(self, pattern: str) -> None:
        """Press Ctrl-C at a prompt until the pattern is shown.

        A signal between the showing of a prompt and the reading of the line goes unnoticed until
        the next one; nobody but a test is so quick.
        """
        due = monotonic() + PATIENCE_S
        while not self._found(pattern):
            assert monotonic() < due, f"no {pattern!r} in {self.shown!r}"
            self.type("\x03")
            while self._read(0.1):
                pass

    def _found(self, pattern: str) -> bool:
        found = re.search(pattern, self.shown)
        self.shown = self.shown[found.end() :] if found else self.shown
        return found is not None

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, timeout_s))
        if ready:
            try:
                self.shown += os.read(self._master, 65_536).decode()
            except OSError:
                # how the master learns that nobody is at the terminal any more
                self.shown += "(left)"
                return False
        return bool(ready)

    def type(self, keys: str) -> None:
        """Press keys; \\x03 is Ctrl-C, \\x04 Ctrl-D."""
        os.write(self._master, keys.encode())


# A session of its own, in which the terminal is the one that Ctrl-C is pressed at.
AT_TERMINAL = (
    "import os, sys\n"
    "os.login_tty(0)\n"
    "os.execv(sys.executable, [sys.executable, '-m', 'protocol', *sys.argv[1:]])\n"
)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """The command at a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_TERMINAL, *arguments],
        cwd=ROOT,
        env={"TERM": "dumb"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


def test_a_conversation_through_a_pipe(tmp_path: Path) -> None:
    """Each line is a turn of one session; no prompt is written where nobody looks."""
    with (
        server(directory=tmp_path) as (_, url),
        command("chat", "--url", url, "--session", "mine", directory=tmp_path) as chat,
    ):
        chat.wait_for(r"^\[demo in session mine; Ctrl-D leaves\]\n")
        chat.write("2 + 3\n\n")
        chat.wait_for(r"2 \+ 3 = 5\n")
        chat.write("what did I say before?\n")
        chat.wait_for(r"This is turn 2 of our conversation. Before, you said: 2 \+ 3\n")
        assert chat.process.stdin is not None
        chat.process.stdin.close()
        assert chat.ended() == 0
        assert "> " not in chat.output
        assert chat.log == ""


@pytest.mark.parametrize(("answer", "said"), [("y", r"announced \(not really\)"), ("no", "denied")])
def test_a_human_is_asked(tmp_path: Path, answer: str, said: str) -> None:
    """An approval shows the exact call and insists on yes or no; the turn then goes on."""
    with (
        server(directory=tmp_path) as (_, url),
        command("chat", "--url", url, directory=tmp_path) as chat,
    ):
        chat.write("announce tea\n")
        chat.wait_for(r'\[approval \(write\): announce {"text":"announce tea"}\]\n')
        chat.write(f"maybe\n{answer}\n")
        chat.wait_for(said)


def test_ctrl_c_cancels_the_answer_and_leaves_at_the_prompt(tmp_path: Path) -> None:
    """While an answer is given Ctrl-C cancels it and the conversation goes on; at the prompt it
    leaves, with exit code 0."""
    with (
        server("app:gated", directory=tmp_path) as (_, url),
        terminal("chat", "--url", url) as chat,
    ):
        chat.wait_for("> ")
        chat.type("go\n")
        chat.wait_for("begun")
        chat.type("\x03")
        chat.wait_for(r"\[cancelled\]\s+> ")
        (tmp_path / "open").touch()
        chat.type("again\n")
        chat.wait_for(r"begun and done\s+> ")
        chat.interrupt_until(r"\(left\)")
        assert chat.process.wait(PATIENCE_S) == 0


def test_ctrl_d_leaves(tmp_path: Path) -> None:
    """The end of the input at the prompt is the end of the conversation."""
    with server("app:echo", directory=tmp_path) as (_, url), terminal("chat", "--url", url) as chat:
        chat.wait_for("> ")
        chat.type("\x04")
        assert chat.process.wait(PATIENCE_S) == 0


def test_ctrl_c_instead_of_a_decision_cancels_the_turn(tmp_path: Path) -> None:
    """Whoever is asked and presses Ctrl-C ends the turn, and may say something else."""
    with server(directory=tmp_path) as (_, url), terminal("chat", "--url", url) as chat:
        chat.wait_for("> ")
        chat.type("announce tea\n")
        chat.wait_for("allow\\? y/n ")
        chat.interrupt_until(r"\[cancelled\]\s+> ")


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """An agent that does not obey cannot hold the terminal: the second Ctrl-C leaves with 130."""
    environ = {"ACTORPOOL_POOL_CANCEL_GRACE_S": "60"}
    with (
        server("app:deaf", directory=tmp_path, environ=environ) as (_, url),
        terminal("chat", "--url", url) as chat,
    ):
        chat.wait_for("> ")
        chat.type("go\n")
        chat.wait_for("begun")
        chat.type("\x03")
        chat.wait_for("Ctrl-C again leaves")
        chat.type("\x03")
        assert chat.process.wait(PATIENCE_S) == 130


def test_a_signal_cancels_like_ctrl_c(tmp_path: Path) -> None:
    """SIGINT from elsewhere, without a terminal, cancels the running turn."""
    with (
        server("app:gated", directory=tmp_path) as (_, url),
        command("chat", "--url", url, directory=tmp_path) as chat,
    ):
        chat.write("go\n")
        chat.wait_for("begun")
        chat.send(signal.SIGINT)
        chat.wait_for(r"\[cancelled\]\n")


def test_a_turn_that_fails_is_told_and_the_next_one_taken(tmp_path: Path) -> None:
    """A failure and a refusal are notes; the conversation goes on."""
    with (
        server("app:fails", directory=tmp_path) as (_, url),
        command("chat", "--url", url, directory=tmp_path) as chat,
    ):
        chat.write("one\n")
        chat.wait_for(r"\[failed: [^\]]+\]\n")
        chat.output = ""
        chat.write("two\n")
        chat.wait_for(r"\[failed: [^\]]+\]\n")


def test_an_agent_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The server's own words say which agents there are."""
    with (
        server("app:echo", directory=tmp_path) as (_, url),
        command("chat", "--url", url, "--agent", "ecko", directory=tmp_path) as chat,
    ):
        chat.write("hello\n")
        chat.wait_for("no agent ecko; there is: echo")


async def nothing(_: web.Request) -> web.Response:
    """What some other server might answer."""
    return web.Response(text="welcome")


@pytest.mark.real_time
async def test_a_server_of_another_kind_is_told(tmp_path: Path) -> None:
    """What answers and does not speak the protocol is named, with exit code 1 and no traceback."""
    app = web.Application()
    app.router.add_get("/{path:.*}", nothing)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        arguments = ("chat", "--url", f"http://127.0.0.1:{site.port}")
        done = await asyncio.to_thread(completed, *arguments, directory=tmp_path)
    finally:
        await runner.cleanup()
    assert done.returncode == 1
    assert done.stdout.startswith("[")
    assert done.stderr == ""


def test_an_address_that_is_none_is_told(tmp_path: Path) -> None:
    """A URL must be one."""
    done = completed("chat", "--url", "nowhere", directory=tmp_path)
    assert done.returncode == 1
    assert "nowhere" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_no_server_is_told(tmp_path: Path) -> None:
    """Where nothing listens, the URL and what to do are said, with exit code 1."""
    done = completed("chat", "--url", "http://127.0.0.1:1", directory=tmp_path)
    assert done.returncode == 1
    assert "no server answers at http://127.0.0.1:1: start one" in done.stdout


def test_talking_needs_no_server_and_serving_no_client() -> None:
    """Each command imports its own side only."""
    program = (
        "import sys\n"
        "import protocol.command.{}\n"
        "assert not [m for m in sys.modules if m.startswith('{}')], sorted(sys.modules)\n"
    )
    for module, other in (
        ("chat", "protocol.server"),
        ("chat", "pool.telemetry.metrics"),
        ("chat", "prometheus_client"),
        ("serve", "protocol.client"),
        ("cli", "protocol.client"),
        ("cli", "aiohttp"),
    ):
        line = [sys.executable, "-c", program.format(module, other)]
        subprocess.run(line, cwd=ROOT, check=True, timeout=PATIENCE_S)
