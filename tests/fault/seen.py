"""What a reader saw over all its connections, duplicates and gaps included.

The product's own client is not used on purpose: it leaves out what comes twice.
"""

from __future__ import annotations

from typing import Any

Event = dict[str, Any]


class Seen:
    """What one reader saw over all its connections. `wrongs`: what it must never see."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.wrongs: list[str] = []
        self.losses = 0
        self.cursor: str | None = None

    def take(self, event: Event) -> None:
        """An event came."""
        if event["type"] == "history.lost":
            self.losses += 1
        elif self.cursor is not None and place_of(event["id"]) <= place_of(self.cursor):
            self.wrongs.append(f"{event['type']} {event['id']} came after {self.cursor}")
        self.cursor = event["id"]
        self.events.append(event)

    def of(self, turn_id: str) -> list[Event]:
        """The events of a turn since it was started last."""
        mine = [event for event in self.events if event["turn_id"] == turn_id]
        starts = [n for n, event in enumerate(mine) if event["type"] == "turn.started"]
        return mine[starts[-1] :] if starts else mine

    def said(self, turn_id: str) -> str:
        """The text of a turn, as whoever follows the protocol has it."""
        return "".join(event.get("text", "") for event in self.of(turn_id) if _is_text(event))

    def ending(self, turn_id: str) -> Event | None:
        """The turn's terminal event, if it came."""
        return next((e for e in self.events if e["turn_id"] == turn_id and "turn" in e), None)


def place_of(cursor: str) -> tuple[int, int]:
    """A cursor as something that can be compared."""
    epoch, _, seq = cursor.partition("-")
    return int(epoch), int(seq)


def _is_text(event: Event) -> bool:
    return bool(event["type"] == "text.delta")
