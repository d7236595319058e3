"""The processes of a measurement: servers that are watched, and loads that report in JSON."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
import psutil

from bench.machine import pinned

T = TypeVar("T")

ROOT: Final = Path(__file__).parent.parent
START_TIMEOUT_S: Final = 15.0
REPORT_TIMEOUT_S: Final = 120.0
# memory is at rest when it is the same over so many samples; together longer than the store waits
REST_SAMPLES: Final = 9
REST_SAMPLE_S: Final = 1.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Listener:
    """A process that takes connections at `port`; killed when the `with` ends.

    `role` as in `machine.pinned`.
    """

    def __init__(
        self, command: list[str], port: int, *, env: dict[str, str] | None = None, role: int
    ) -> None:
        self.port = port
        # read only if something goes wrong: the log costs what it costs, and is seen by nobody
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [*pinned(role), *command],
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=self._log,
            stderr=self._log,
        )
        self._usage = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        self.wait_until_listening()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.close()

    def kill(self) -> None:
        """End the process with SIGKILL. May be called twice."""
        self._process.kill()
        self._process.wait()

    def wait_until_listening(self) -> None:
        """Return as soon as connections are taken; `RuntimeError` if they are not in time."""
        give_up = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                raise RuntimeError(f"the process ended at its start: {self._said()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.001)
            else:
                return
        self._process.kill()
        raise RuntimeError(f"no answer within {START_TIMEOUT_S:g} s: {self._said()}")

    def _said(self) -> str:
        """The end of the output."""
        self._log.seek(0)
        return self._log.read()[-2_000:].decode(errors="replace")


class Server(Listener):
    """A server of the project, or one that it is held against, on the server's core.

    `command`, for Python, is given the port to listen on as its last word.
    """

    def __init__(
        self, command: list[str], *, env: dict[str, str] | None = None, role: int = 0
    ) -> None:
        port = free_port()
        super().__init__([sys.executable, *command, str(port)], port, env=env, role=role)

    def cpu_s(self) -> float:
        """CPU time used so far, in seconds."""
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def memory_bytes(self) -> int:
        """Memory of the process that nobody else shares, in bytes."""
        return int(self._usage.memory_full_info().uss)

    def memory_at_rest_bytes(self) -> int:
        """The same when it has stopped to shrink: the store packs what is idle bit by bit."""
        history = [self.memory_bytes()]
        while len(history) < REST_SAMPLES or history[-1] < history[-REST_SAMPLES] * 0.998:
            time.sleep(REST_SAMPLE_S)
            history.append(self.memory_bytes())
        return history[-1]


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module of the project."""
    return ["-m", module, *map(str, arguments)]


def report(module: str, *arguments: object, kind: type[T], role: int = 1) -> T:
    """Run a module on the load's core to its end; what it printed, read as `kind`."""
    command = [*pinned(role), sys.executable, *python(module, *arguments)]
    result = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=REPORT_TIMEOUT_S
    )
    return msgspec.json.decode(result.stdout, type=kind)
