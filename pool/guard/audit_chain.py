"""Checks the chains of an audit log: what was changed, removed, moved or cut off. Pure.

Lines go in, in their order; what is wrong comes out. However long a chain is, it is read once and
only its head is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from pool.guard.audit_records import (
    ALIVE,
    CLOSED,
    CUT,
    NO_HASH,
    OPENED,
    Head,
    Line,
    Record,
    Seal,
    read_line,
)

What = Literal["unreadable", "changed", "replaced", "removed", "moved", "repeated", "cut"]

# A record is this late before it is said to be missing, in multiples of the announced time.
_PATIENCE: Final = 3.0
_ALIVE_S: Final = 60.0


class Finding(NamedTuple):
    """Something is wrong: with these records of a chain ("": no chain is known), and in words."""

    chain: str
    numbers: range
    what: What
    detail: str


class ChainState(Struct):
    """What is known of a chain so far. `end`: `closed` by its process, `alive` (a record was due no
    longer ago than is usual), `killed` (that is known), or `cut`. `crashes`: how often its process
    came back without having closed it.
    """

    first: Record
    last: Record
    head: Head
    records: int = 0
    crashes: int = 0
    end: Literal["closed", "alive", "killed", "cut"] = "alive"
    next_within_s: float = _ALIVE_S
    gaps: list[range] = []


class Checker:
    """Reads lines and notes what is wrong.

    `anchors`: heads that were written down elsewhere; the chain has to go through them, or to begin
    right after them. `ended`: heads of chains of which it is known that their process was killed
    then and there.
    """

    def __init__(
        self, seal: Seal, *, anchors: Iterable[Head] = (), ended: Iterable[Head] = ()
    ) -> None:
        self._seal = seal
        self._ended = frozenset(ended)
        self._anchors: dict[tuple[str, int], Head] = {}
        self._met: set[tuple[str, int]] = set()
        self._chains: dict[str, ChainState] = {}
        # of the line before, if that was no record
        self._unreadable: Finding | None = None
        self.findings: list[Finding] = []
        for anchor in (*anchors, *self._ended):
            self.expect(anchor)

    @property
    def chains(self) -> Mapping[str, ChainState]:
        """All chains that were met, by name."""
        return self._chains

    def expect(self, anchor: Head) -> None:
        """One more anchor, before its chain is read."""
        self._anchors[anchor.chain, anchor.number] = anchor

    def read(self, place: str, line: bytes) -> Record | None:
        """Check the next line; `place` is where it is, for a person. Its record, if it has one."""
        read = read_line(line)
        torn, self._unreadable = self._unreadable, None
        if read is None:
            self._find("", range(0), "unreadable", f"{place} is no record")
            self._unreadable = self.findings[-1]
            return None
        sealed, record = read
        intact = self._seal.hash(record.prev, bytes(sealed.record)) == sealed.hash
        state = self._chains.get(record.chain)
        if not intact:
            # what it says of its number may be what was changed
            record = replace(
                record, number=record.number if state is None else state.head.number + 1
            )
            self._find_one(record, "changed", "is not as it was written")
        self._anchor(Head(record.chain, record.number, sealed.hash))
        if state is None:
            self._begin(sealed, record)
        else:
            self._follow(state, sealed, record, torn)
        return record

    def end(self, now: float) -> Mapping[str, ChainState]:
        """All lines have been read, at `now` (seconds since the epoch): what is missing?"""
        for name, state in self._chains.items():
            for gap in state.gaps:
                self._find(name, gap, "removed", f"{_named(gap)} missing")
            self._end(state, now)
        for anchor in self._anchors.values():
            self._missing(anchor)
        return self._chains

    def _begin(self, sealed: Line, record: Record) -> None:
        before = self._anchors.get((record.chain, record.number - 1))
        if before is not None:
            self._met.add((record.chain, before.number))
        prev = NO_HASH if before is None else before.hash
        known = before is not None or record.number == 1
        gaps = [] if known or record.number < 2 else [range(1, record.number)]
        if known and record.prev != prev:
            self._find_one(record, "replaced", "does not follow what was before it")
        head = Head(record.chain, record.number, sealed.hash)
        state = ChainState(first=record, last=record, head=head, gaps=gaps)
        self._chains[record.chain] = state
        self._note(state, record)

    def _follow(
        self, state: ChainState, sealed: Line, record: Record, torn: Finding | None
    ) -> None:
        due = state.head.number + 1
        if record.number < due:
            self._late(state, record)
            return
        if record.number > due:
            state.gaps.append(range(due, record.number))
        elif record.prev != state.head.hash:
            # it names another record than the one that is there
            self._find_one(
                state.last, "replaced", "is not the one that its successor was sealed to"
            )
        if record.action == OPENED and (state.last.action != CLOSED or record.outcome == CUT):
            state.crashes += 1
            if torn is not None and record.number == due:
                # what its process was writing when it was killed
                self.findings.remove(torn)
            self._reopened(state, record)
        state.head = Head(record.chain, record.number, sealed.hash)
        state.last = record
        self._note(state, record)

    def _reopened(self, state: ChainState, record: Record) -> None:
        """It goes on without having been closed. Its process sealed whatever end it found when it
        came back: that this was its end is for others to know.
        """
        number = state.head.number
        if record.outcome == CUT:
            detail = f"was cut off after record {number}: its process found that when it came back"
        elif state.head in self._ended:
            return
        else:
            detail = (
                f"was not closed after record {number}, and went on with {record.number}: its "
                "process was killed, or what was between them was removed before it came back"
            )
        self._find(record.chain, range(record.number, record.number), "cut", detail)

    def _late(self, state: ChainState, record: Record) -> None:
        number = record.number
        gap = next((each for each in state.gaps if number in each), None)
        if gap is None:
            self._find_one(record, "repeated", "is there more than once")
            return
        parts = (range(gap.start, number), range(number + 1, gap.stop))
        place = state.gaps.index(gap)
        state.gaps[place : place + 1] = [part for part in parts if part]
        state.records += 1
        self._find_one(record, "moved", f"comes after record {state.head.number}")

    def _note(self, state: ChainState, record: Record) -> None:
        state.records += 1
        if record.action in (OPENED, ALIVE):
            state.next_within_s = _seconds(record.reason)

    def _end(self, state: ChainState, now: float) -> None:
        last = state.last
        if last.action == CLOSED:
            state.end = "closed"
        elif state.head in self._ended:
            state.end = "killed"
        elif now - last.at > _PATIENCE * state.next_within_s:
            state.end = "cut"
            detail = (
                f"ends after record {last.number} without having been closed: what followed was "
                "removed, or its process was killed"
            )
            numbers = range(last.number + 1, last.number + 1)
            self._find(last.chain, numbers, "cut", detail)

    def _anchor(self, head: Head) -> None:
        anchor = self._anchors.get((head.chain, head.number))
        if anchor is None:
            return
        self._met.add((head.chain, head.number))
        if anchor.hash != head.hash:
            numbers = range(head.number, head.number + 1)
            detail = f"record {head.number} is not the one that was written down elsewhere"
            self._find(head.chain, numbers, "replaced", detail)

    def _missing(self, anchor: Head) -> None:
        if (anchor.chain, anchor.number) in self._met:
            return
        state = self._chains.get(anchor.chain)
        last = 0 if state is None else state.head.number
        if anchor.number > last:
            gone = range(last + 1, anchor.number + 1)
            self._find(anchor.chain, gone, "removed", f"{_named(gone)} missing at the end")

    def _find_one(self, record: Record, what: What, detail: str) -> None:
        numbers = range(record.number, record.number + 1)
        self._find(record.chain, numbers, what, f"record {record.number} {detail}")

    def _find(self, chain: str, numbers: range, what: What, detail: str) -> None:
        self.findings.append(Finding(chain, numbers, what, detail))


def _named(numbers: range) -> str:
    # there may be more than `len` can count
    if numbers.stop - numbers.start == 1:
        return f"record {numbers.start} is"
    return f"records {numbers.start} to {numbers.stop - 1} are"


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return _ALIVE_S
