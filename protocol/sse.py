"""Server-sent events, without I/O: headers, cursors and the pace of writing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from pool.errors import InvalidRequest
from pool.events import Cursor
from protocol.preferences import EVENT_STREAM

COMMENT: Final = b":\n\n"

HEADERS: Final[tuple[tuple[str, str], ...]] = (
    ("Content-Type", EVENT_STREAM),
    ("Cache-Control", "no-store"),
    # a proxy that collects the stream before it passes it on would undo it
    ("X-Accel-Buffering", "no"),
)


def cursor(headers: Mapping[str, str], after: str | None) -> Cursor | None:
    """Where to go on reading: the `Last-Event-ID` header, else `?after=`; None if there is neither.
    `InvalidRequest` if it is malformed."""
    last = headers.get("Last-Event-ID")
    text = after if last is None else last
    if text is None:
        return None
    try:
        return Cursor.parse(text)
    except InvalidRequest as error:
        field = "after" if last is None else "Last-Event-ID"
        raise InvalidRequest(error.detail, field=field) from None


class Pace(Struct):
    """When a reader is written to: the first batch at once, the next ones `flush_s` apart; a
    comment when nothing was written for `heartbeat_s`. Times are seconds on the loop's clock."""

    flush_s: float
    heartbeat_s: float
    written_at: float = float("-inf")

    def pause(self, now: float) -> float:
        """How long to collect what comes before the next write; 0: write now."""
        return max(0.0, self.written_at + self.flush_s - now)

    def comment_at(self) -> float:
        """When a comment is due if nothing else is written until then."""
        return self.written_at + self.heartbeat_s
