"""What other processes have to do with a session of the memory store: its inbox and watchers."""

from __future__ import annotations

from msgspec import Struct

from pool.store.sharing import CancelTurn, DecideCall, Letter, Signal, TurnArrived


class Mail(Struct, eq=False):
    """The letters of a session in order, each with its place, and who watches its log."""

    letters: list[tuple[int, TurnArrived | Signal]] = []
    # up to which place a holder has read
    read: int = 0
    # the questions that were decided: turn and question
    decided: set[tuple[str, str]] = set()
    watchers: set[str] = set()

    def put(self, place: int, content: TurnArrived | Signal) -> bool:
        """Add a letter; False if it decides what was decided before.

        Who cancels a turn again finds the letter there, unless it was read.
        """
        if isinstance(content, DecideCall):
            question = content.turn_id, content.question
            if question in self.decided:
                return False
            self.decided.add(question)
        if not (isinstance(content, CancelTurn) and self._has(content)):
            self.letters.append((place, content))
        return True

    def after(self, place: int) -> list[Letter]:
        """The letters behind a place; those up to it go."""
        self.letters = [letter for letter in self.letters if letter[0] > place]
        if self.letters:
            self.read = self.letters[-1][0]
        return [Letter(str(at), content) for at, content in self.letters]

    def clear(self) -> None:
        """No turn is left that a letter could be about."""
        self.letters.clear()
        self.decided.clear()

    def _has(self, content: CancelTurn) -> bool:
        return any(place > self.read and letter == content for place, letter in self.letters)
