"""The command as a real process, with an environment of its own, ended by its id."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

ROOT: Final = Path(__file__).parents[2]
# What any one thing may take on a busy machine, in seconds.
PATIENCE_S: Final = 20.0


class Command:
    """A running `python -m protocol`; what it writes to standard output is read as it comes."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.output = ""
        self._log = log

    @property
    def log(self) -> str:
        """What it has written to standard error so far."""
        return self._log.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in the output, once it is there."""
        due = monotonic() + PATIENCE_S
        while (found := re.search(pattern, self.output)) is None:
            self._read(due, pattern)
        return found

    def wait_for_log(self, text: str) -> None:
        """Return once the text is in the log. A file tells nobody that it grew: it is looked at."""
        due = monotonic() + PATIENCE_S
        while text not in self.log:
            if monotonic() > due:
                raise AssertionError(f"no {text!r} in the log: {self.log}")
            sleep(0.01)

    def write(self, text: str) -> None:
        """Type something."""
        if self.process.stdin is None:
            raise RuntimeError("it was started without a standard input")
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def insist(self, number: signal.Signals) -> int:
        """Its exit code, once it has ended of a signal that is sent again and again.

        The handler of a signal that follows closely on another may run with the next one only.
        """
        due = monotonic() + PATIENCE_S
        while self.process.poll() is None and monotonic() < due:
            self.send(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
        return self.ended()

    def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(PATIENCE_S)

    def _read(self, due: float, pattern: str) -> None:
        if self.process.stdout is None:
            raise RuntimeError("its standard output is not read")
        stream = self.process.stdout.fileno()
        ready, _, _ = select.select([stream], [], [], max(0.0, due - monotonic()))
        data = os.read(stream, 65_536) if ready else b""
        if not data:
            raise AssertionError(f"no {pattern!r} in {self.output!r}; its log: {self.log}")
        self.output += data.decode()


@contextmanager
def command(
    *arguments: str, directory: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Command]:
    """The command, started in `directory`; killed if it still runs when the block ends."""
    log = directory / f"{arguments[0]}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            _line(arguments),
            cwd=directory,
            env=_environment(environ, directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        yield Command(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def completed(
    *arguments: str, directory: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    return subprocess.run(
        _line(arguments),
        cwd=directory,
        env=_environment(environ, directory),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def _line(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "protocol", *arguments]


def _environment(environ: Mapping[str, str] | None, directory: Path) -> dict[str, str]:
    # nothing of this process's own environment, but the sources are found; what is kept, is kept
    # among the test's own files
    return {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(directory), **(environ or {})}
