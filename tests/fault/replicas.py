"""Servers as processes on one store, to be killed, stopped and started again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.fault.runs import Runs
from tests.support.process import Command, command
from tests.support.redis_process import free_port

AGENT: Final = "agent=tests.fault.agents:agent"
# Short, so that a test need not wait long for what a dead replica has left.
LEASE_S: Final = 1.0


class Replica:
    """One server. Each start is a new process, on the same port and store."""

    def __init__(self, store: str, home: Path, environ: Mapping[str, str]) -> None:
        self.port = free_port()
        self.starts = 0
        self._store = store
        self._home = home
        self._environ = environ
        self._running = ExitStack()
        self._command: Command | None = None

    def __repr__(self) -> str:
        return f"<Replica {self._home.name} at {self.url}, start {self.starts}>"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> Command:
        """Its process, running or the last one that was."""
        if self._command is None:
            raise RuntimeError("the replica was never started")
        return self._command

    @property
    def alive(self) -> bool:
        """Whether its process runs (or is stopped)."""
        return self._command is not None and self._command.process.poll() is None

    def launch(self) -> None:
        """Start the process; `wait` until it serves."""
        self._running.close()
        self.starts += 1
        directory = self._home / f"start-{self.starts}"
        directory.mkdir(parents=True)
        running = command(
            *("serve", AGENT, "--port", str(self.port), "--store", self._store),
            directory=directory,
            environ=self._environ,
        )
        self._command = self._running.enter_context(running)

    def wait(self) -> None:
        """Return once it serves."""
        self.process.wait_for(r"at (http://127\.0\.0\.1:\d+) ")

    def start(self) -> None:
        """Start the process, and return once it serves."""
        self.launch()
        self.wait()

    def kill(self) -> None:
        """End the process with SIGKILL, stopped or not."""
        self._running.close()

    def stop(self) -> None:
        """Let the process stand still; its connections stay."""
        self.process.send(signal.SIGSTOP)

    def cont(self) -> None:
        """Let the process go on."""
        self.process.send(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask the process to drain and end."""
        self.process.send(signal.SIGTERM)


class Fleet:
    """Replicas of one store, and what their agents noted. `fleet[0]` is the first of them."""

    def __init__(self, replicas: list[Replica], runs: Runs, store: str) -> None:
        self.replicas = replicas
        self.runs = runs
        self.store = store

    def __getitem__(self, place: int) -> Replica:
        return self.replicas[place]

    def __iter__(self) -> Iterator[Replica]:
        return iter(self.replicas)

    @property
    def urls(self) -> list[str]:
        """Where those listen that are alive."""
        return [replica.url for replica in self.replicas if replica.alive]


@asynccontextmanager
async def fleet_apart(
    count: int, store: str, directory: Path, **options: Any
) -> AsyncIterator[Fleet]:
    """A `fleet` started outside of the loop, which serves its proxy to the store meanwhile."""
    with ExitStack() as stack:
        replicas = fleet(count, store, directory, **options)
        yield await asyncio.to_thread(stack.enter_context, replicas)


@contextmanager
def fleet(
    count: int,
    store: str,
    directory: Path,
    *,
    lease_s: float = LEASE_S,
    environ: Mapping[str, str] | None = None,
    runs: Runs | None = None,
) -> Iterator[Fleet]:
    """So many replicas that serve, killed when the block is left.

    `environ`: more settings. `runs`: those of another fleet on the same store.
    """
    if runs is None:
        noted = directory / "noted"
        noted.mkdir(parents=True)
        runs = Runs(noted)
    settings = {
        "ACTORPOOL_STORE_LEASE_S": f"{lease_s:g}",
        "ACTORPOOL_SERVER_DRAIN_S": "5",
        "ACTORPOOL_POOL_CANCEL_GRACE_S": "0.5",
        **runs.environ,
        **(environ or {}),
    }
    with ExitStack() as stack:
        replicas = [Replica(store, directory / f"replica-{n}", settings) for n in range(count)]
        for replica in replicas:
            stack.callback(replica.kill)
            replica.launch()
        for replica in replicas:
            replica.wait()
        yield Fleet(replicas, runs, store)
