"""One caller that takes its time: it asks, submits and reads turns over one HTTP connection."""

from __future__ import annotations

from datetime import datetime
from http.client import HTTPConnection
from typing import Final, Self

import msgspec
from msgspec import Struct

from bench.http_load import BODY

TIMEOUT_S: Final = 60.0
# how long one read waits for a turn's end, at most
WAIT_S: Final = 30


class Turn(Struct, frozen=True):
    """What is read of a turn."""

    id: str
    state: str
    run_s: float
    finished_at: datetime | None = None

    @property
    def started_at(self) -> float:
        """When the attempt that ended began, in seconds since the epoch."""
        if self.finished_at is None or self.state != "completed":
            raise RuntimeError(f"turn {self.id} should be completed, and is {self.state}")
        return self.finished_at.timestamp() - self.run_s


class Caller:
    """A caller of the server at a port of this machine; it hangs up when the `with` ends."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, session: str) -> Turn:
        """A turn, answered."""
        return self._request("POST", f"/v1/sessions/{session}/turns", BODY)

    def submit(self, session: str) -> str:
        """The id of a turn that was accepted."""
        prefer = {"Prefer": "respond-async"}
        return self._request("POST", f"/v1/sessions/{session}/turns", BODY, **prefer).id

    def ended(self, turn_id: str) -> Turn:
        """A turn once it has ended, or has not for too long."""
        return self._request("GET", f"/v1/turns/{turn_id}?wait_s={WAIT_S}")

    def _request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Turn:
        self._connection.request(
            method, path, body, {"Content-Type": "application/json", **headers}
        )
        response = self._connection.getresponse()
        answer = response.read()
        if response.status not in (200, 202):
            raise RuntimeError(f"{method} {path} was answered with {response.status}: {answer!r}")
        return msgspec.json.decode(answer, type=Turn)
