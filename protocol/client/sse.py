"""Server-sent events, taken apart. Pure."""

from __future__ import annotations

from typing import Final

from protocol.client.errors import ProtocolViolation

# More than the largest event that a server sends: a turn's output is a few MiB at most.
_MOST_BYTES: Final = 64 * 2**20


class SseParser:
    """Turns the bytes of a `text/event-stream` into the data of its events.

    Only what the protocol uses: lines end with LF, an event is one `data` line or several.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        # what is before this place holds no end of a block
        self._looked = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The data of all events that are complete with these bytes."""
        self._rest += data
        found: list[bytes] = []
        start = 0
        while (end := self._rest.find(b"\n\n", max(start, self._looked))) >= 0:
            block = bytes(self._rest[start:end])
            start = self._looked = end + 2
            lines = [line for line in block.split(b"\n") if line.startswith(b"data:")]
            if lines:
                found.append(b"\n".join([line[5:].removeprefix(b" ") for line in lines]))
        del self._rest[:start]
        self._looked = max(0, len(self._rest) - 1)
        if len(self._rest) > _MOST_BYTES:
            raise ProtocolViolation(f"an event of more than {_MOST_BYTES} bytes")
        return found
