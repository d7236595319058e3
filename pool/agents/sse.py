"""The bytes of an event stream (SSE), cut into the data of its events. No I/O."""

from __future__ import annotations

from pool.errors import ModelUnusable


class EventData:
    """Takes what a connection delivers, in whatever pieces, and gives the data of each complete
    event.

    What has come of an event that is not complete is kept, up to `max_bytes`.
    """

    __slots__ = ("_kept", "_max_bytes")

    def __init__(self, max_bytes: int = 2**20) -> None:
        self._kept = bytearray()
        self._max_bytes = max_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that are complete now; `ModelUnusable` if one is too long."""
        if b"\n" not in data and b"\r" not in data:
            # Nothing ends here. A very long event is thus not searched again with each piece.
            self._keep(data)
            return []
        if self._kept:
            data = bytes(self._kept) + data
            self._kept.clear()
        if b"\r" in data:
            data = _unix(data)
        *events, rest = data.split(b"\n\n")
        self._keep(rest)
        return [
            event[6:] if event.startswith(b"data: ") and b"\n" not in event else _data(event)
            for event in events
        ]

    def _keep(self, rest: bytes) -> None:
        if len(self._kept) + len(rest) > self._max_bytes:
            raise ModelUnusable(
                f"the model's provider sent an event of more than {self._max_bytes} bytes"
            )
        self._kept += rest


def _unix(data: bytes) -> bytes:
    """Line ends as LF. A CR at the very end stays: its LF may still come."""
    tail = b"\r" if data.endswith(b"\r") else b""
    body = data[:-1] if tail else data
    return body.replace(b"\r\n", b"\n").replace(b"\r", b"\n") + tail


def _data(event: bytes) -> bytes:
    """The data lines of an event, joined; comments and other fields are left out."""
    lines = (line[5:] for line in event.split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(line.removeprefix(b" ") for line in lines)
