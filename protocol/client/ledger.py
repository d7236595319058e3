"""What a chat must remember to lose nothing when its connection breaks. Pure: no I/O, no clock.

- the cursor of each session: the last event received, after which reading goes on;
- commands that were not answered: they are sent again, turns with their idempotency keys;
- turns that were accepted in a session of which no event has come yet: there is no cursor to go on
  from, so the turn itself is sent again, which gives its events from the first;
- how much was dealt with since the last acknowledgement.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from protocol.client.events import ClientEvent, HistoryLost

# How many acknowledgements a window takes: fewer than one is too late, one an event is too many.
_ACKS_PER_WINDOW: Final = 4

_encode = msgspec.json.Encoder().encode


class Ledger:
    """The state of a chat that outlives its connections."""

    def __init__(self, sessions: dict[str, str]) -> None:
        # what was received, and what the caller has taken
        self.received: dict[str, str] = dict(sessions)
        self.taken: dict[str, str] = dict(sessions)
        self._unanswered: dict[int, dict[str, Any]] = {}
        self._anchors: dict[str, dict[str, Any]] = {}
        self._unacknowledged: dict[str, int] = {}
        self._window = 1
        self._count = 0

    def __repr__(self) -> str:
        return f"<Ledger {len(self.received)} sessions, {len(self._unanswered)} unanswered>"

    def command(self, kind: str, **fields: Any) -> int:
        """Note a command; its ref. It counts as unanswered from now on."""
        self._count += 1
        self._unanswered[self._count] = {"type": kind, "ref": self._count, **fields}
        return self._count

    def text(self, ref: int) -> str:
        """The command as a text frame."""
        return _text(self._unanswered[ref])

    def answered(self, ref: int, cursor: str | None = None) -> None:
        """The command was carried out; `cursor` is that of a subscribe."""
        command = self._unanswered.pop(ref, None)
        if command is None:
            return
        session_id = command.get("session_id", "")
        if command["type"] == "turn":
            if session_id not in self.received:
                self._anchors.setdefault(session_id, command)
        elif command["type"] == "subscribe" and cursor is not None:
            self.received[session_id] = self.taken[session_id] = cursor
        elif command["type"] == "unsubscribe":
            self.forget(session_id)

    def refused(self, ref: int) -> None:
        """The command was refused, or nobody waits for it any longer."""
        self._unanswered.pop(ref, None)

    def forget(self, session_id: str) -> None:
        """The session is not read any more."""
        for kept in (self.received, self.taken, self._anchors, self._unacknowledged):
            kept.pop(session_id, None)

    def connected(self, window: int) -> None:
        """A connection was welcomed: it has a window of its own, of which nothing is used."""
        self._window = window
        self._unacknowledged.clear()

    def resume(self) -> tuple[str, list[str]]:
        """The hello of a new connection, and the commands to send again after its welcome."""
        hello = {"type": "hello", "sessions": self.received}
        again = [*self._anchors.values(), *self._unanswered.values()]
        return _text(hello), [_text(command) for command in again]

    def event(self, event: ClientEvent) -> bool:
        """An event came; False if it was had before."""
        session_id = event.session_id
        last = self.received.get(session_id)
        # history may be lost back to an earlier place: what is said about that is always news
        old = last is not None and _place(event.id) <= _place(last)
        if old and not isinstance(event, HistoryLost):
            return False
        self.received[session_id] = event.id
        self._anchors.pop(session_id, None)
        return True

    def take(self, event: ClientEvent) -> str | None:
        """The caller has got the event; the acknowledgement to send, if it is time for one."""
        session_id = event.session_id
        if session_id not in self.received:
            return None
        self.taken[session_id] = event.id
        count = self._unacknowledged.get(session_id, 0) + 1
        if count * _ACKS_PER_WINDOW < self._window:
            self._unacknowledged[session_id] = count
            return None
        self._unacknowledged[session_id] = 0
        return _text({"type": "ack", "session_id": session_id, "cursor": event.id})


def _place(cursor: str) -> tuple[int, int]:
    epoch, _, seq = cursor.partition("-")
    return int(epoch), int(seq)


def _text(command: dict[str, Any]) -> str:
    return _encode(command).decode()
