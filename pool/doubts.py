"""What the store may believe of this process, because an answer of it was lost."""

from __future__ import annotations

from pool.store.lease import SessionKey
from pool.turn import Turn


class Doubts:
    """Sessions that may be ours by the store's account, and turns that it may have accepted for us.

    Nobody else would ever take them: our leases hold. They are cleared up when the store can be
    asked.
    """

    def __init__(self) -> None:
        self.sessions: dict[SessionKey, None] = {}
        # turns whose callers were told that they were not accepted; True: who sends the turn again,
        # with its idempotency key, gets this one
        self.turns: dict[str, tuple[Turn, bool]] = {}

    def session(self, key: SessionKey) -> None:
        """The store may think that the session is here, and it is not."""
        self.sessions[key] = None

    def turn(self, turn: Turn, *, repeatable: bool) -> None:
        """The store may have accepted the turn."""
        self.turns[turn.id] = (turn, repeatable)
