"""Words that many sessions share: an owner, a user, an agent. Packed as a number."""

from __future__ import annotations

from typing import Final

# A number, or the word itself once there are too many.
Word = int | str

# Users may be many: only so many words are given a number.
WORDS_MAX: Final = 1_000


class Words:
    """The shared words of one store."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._numbers: dict[str, int] = {}

    def write(self, word: str) -> Word:
        """How a word is packed."""
        number = self._numbers.get(word)
        if number is None:
            if len(self._words) >= WORDS_MAX:
                return word
            number = self._numbers[word] = len(self._words)
            self._words.append(word)
        return number

    def read(self, packed: Word) -> str:
        """The word that was packed."""
        return self._words[packed] if isinstance(packed, int) else packed
