"""What the agents of all replicas did, noted in files that outlive their processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

_VARIABLE: Final = "FAULT_RUNS"


class Run(Struct, frozen=True, array_like=True):
    """One time that an agent was given a turn, and when (seconds since the epoch), in which
    process. `resumed`: after its pause. `found`: the state that it got.
    """

    at: float
    pid: int

    turn_id: str
    session_id: str
    attempt: int
    resumed: bool
    found: str


class Runs:
    """A directory that test and agents share: runs, effects of tools, gates that agents wait at."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def of_environment(cls) -> Runs:
        """Those that `environ` of the test's names."""
        return cls(Path(os.environ[_VARIABLE]))

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs to find them."""
        return {_VARIABLE: str(self._directory)}

    def note(self, run: Run) -> None:
        """An agent begins."""
        self._append("runs", msgspec.json.encode(run))

    def effect(self, turn_id: str, key: str) -> None:
        """A tool had its effect, under an idempotency key."""
        self._append("effects", f"{turn_id} {key}".encode())

    def all(self) -> Sequence[Run]:
        """All runs, in order."""
        return [msgspec.json.decode(line, type=Run) for line in self._lines("runs")]

    def of(self, turn_id: str) -> Sequence[Run]:
        """The runs of one turn."""
        return [run for run in self.all() if run.turn_id == turn_id]

    def effects(self) -> Mapping[str, set[str]]:
        """The idempotency keys that the effects of each turn had."""
        found: dict[str, set[str]] = {}
        for line in self._lines("effects"):
            turn_id, _, key = line.decode().partition(" ")
            found.setdefault(turn_id, set()).add(key)
        return found

    def open(self, gate: str) -> None:
        """Let go of those who wait at the gate."""
        (self._directory / f"{gate}.open").touch()

    def is_open(self, gate: str) -> bool:
        """Whether nobody need wait at it."""
        return (self._directory / f"{gate}.open").exists()

    def _append(self, name: str, line: bytes) -> None:
        # one write at the end of a file: whole, whoever else writes, whoever dies
        file = os.open(self._directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line + b"\n")
        finally:
            os.close(file)

    def _lines(self, name: str) -> Sequence[bytes]:
        path = self._directory / name
        return path.read_bytes().splitlines() if path.exists() else ()
