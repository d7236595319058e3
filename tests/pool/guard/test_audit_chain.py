"""Whoever tampers with an audit log is found out, and where."""

from __future__ import annotations

import json
import random
from hashlib import sha256

import pytest

from pool.guard.audit_chain import Checker, Finding
from pool.guard.audit_records import NO_HASH, Happening, Head, Seal, read_line
from pool.turn import ANYONE

SEAL = Seal()
NOW = 1_000.0


def test_a_record_is_written_canonically() -> None:
    """Keys sorted, no spaces: the hash can be made from the record alone, by any program."""
    line = json.loads(chain()[0])
    record = json.dumps(line["record"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    sealed = sha256((line["record"]["prev"] + record).encode()).hexdigest()
    assert sealed == line["hash"]


def chain(*actions: str, name: str = "p1", start: Head | None = None) -> list[bytes]:
    """The lines of a chain: opened, these actions, closed."""
    head = start or Head(name, 0, NO_HASH)
    lines = []
    for action in ("audit.opened", *actions, "audit.closed"):
        reason = "10" if action.startswith("audit.") else ""
        sealed = SEAL.seal(head, Happening(NOW, action, "done", ANYONE, reason=reason))
        head = sealed.head
        lines.append(sealed.line)
    return lines


def head_after(line: bytes) -> Head:
    """The head that a line makes."""
    read = read_line(line)
    assert read is not None
    return Head(read[1].chain, read[1].number, read[0].hash)


def checked(
    lines: list[bytes], *anchors: Head, ended: tuple[Head, ...] = (), now: float = NOW
) -> Checker:
    """The checker after these lines and their end."""
    checker = Checker(SEAL, anchors=anchors, ended=ended)
    for place, line in enumerate(lines, start=1):
        checker.read(f"line {place}", line)
    checker.end(now)
    return checker


def wrong(
    lines: list[bytes], *anchors: Head, ended: tuple[Head, ...] = (), now: float = NOW
) -> list[tuple[str, list[int]]]:
    """What is wrong, and with which records."""
    findings = checked(lines, *anchors, ended=ended, now=now).findings
    return [(each.what, list(each.numbers)) for each in findings]


def test_a_whole_chain_is_whole() -> None:
    """With its times, its number of records and how it ended."""
    state = checked(chain("a", "b")).chains["p1"]
    assert wrong(chain("a", "b")) == []
    assert (state.records, state.end, state.crashes) == (4, "closed", 0)


@pytest.mark.parametrize("place", range(5))
def test_a_changed_record_is_named(place: int) -> None:
    """Whichever it is; its successors are as they were."""
    lines = chain("a", "b", "c")
    lines[place] = lines[place].replace(b'"outcome":"done"', b'"outcome":"gone"')
    assert wrong(lines) == [("changed", [place + 1])]


def test_a_record_with_another_number_is_changed() -> None:
    """And nothing else is wrong: the number is not believed."""
    lines = chain("a", "b", "c")
    lines[2] = lines[2].replace(b'"number":3', b'"number":9')
    assert wrong(lines) == [("changed", [3])]


@pytest.mark.parametrize("place", range(4))
def test_a_record_that_was_made_anew_is_found_by_its_successor(place: int) -> None:
    """Its own hash is right, but what follows was sealed to the one that was there."""
    lines = chain("a", "b", "c")
    before = head_after(lines[place - 1]) if place else Head("p1", 0, NO_HASH)
    lines[place] = SEAL.seal(before, Happening(NOW, "forged", "done", ANYONE)).line
    assert wrong(lines) == [("replaced", [place + 1])]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 2), (1, 4), (2, 4)])
def test_removed_records_are_named(start: int, stop: int) -> None:
    """One or many, at the beginning or later."""
    lines = chain("a", "b", "c")
    del lines[start:stop]
    assert wrong(lines) == [("removed", list(range(start + 1, stop + 1)))]


def test_what_was_removed_is_said_in_words() -> None:
    """As an operator reads it."""
    lines = chain("a", "b", "c")
    assert [each.detail for each in checked(lines[:1] + lines[2:]).findings] == [
        "record 2 is missing"
    ]
    assert [each.detail for each in checked(lines[:1] + lines[3:]).findings] == [
        "records 2 to 3 are missing"
    ]


@pytest.mark.parametrize(("first", "second", "moved"), [(1, 2, [2]), (0, 1, [1]), (1, 3, [3, 2])])
def test_records_out_of_order_are_named(first: int, second: int, moved: list[int]) -> None:
    """They are all there, but not where they were written."""
    lines = chain("a", "b", "c")
    lines[first], lines[second] = lines[second], lines[first]
    assert wrong(lines) == [("moved", [number]) for number in moved]


def test_a_repeated_record_is_named() -> None:
    """Even the very same one."""
    lines = chain("a", "b")
    assert wrong([*lines[:3], lines[1], *lines[3:]]) == [("repeated", [2])]


def test_what_is_no_record_is_named_by_its_place() -> None:
    """Half a line of a crash, say."""
    lines = chain("a")
    checker = checked([lines[0], b'{"hash":"', *lines[1:]])
    assert checker.findings == [Finding("", range(0), "unreadable", "line 2 is no record")]


def test_a_chain_that_was_cut_off_is_found_when_its_process_is_silent() -> None:
    """It says within how many seconds it says more: three times as long is too long."""
    lines = chain("a", "b")[:-1]
    assert wrong(lines, now=NOW + 29) == []
    assert checked(lines, now=NOW + 29).chains["p1"].end == "alive"
    assert wrong(lines, now=NOW + 31) == [("cut", [])]
    assert checked(lines, now=NOW + 31).chains["p1"].end == "cut"


def test_a_time_that_makes_no_sense_is_a_minute() -> None:
    """The announced time of a record that was tampered with breaks nothing."""
    lines = [chain("a")[0].replace(b'"reason":"10"', b'"reason":"soon"')]
    assert wrong(lines, now=NOW + 100) == [("changed", [1])]
    assert wrong(lines, now=NOW + 200) == [("changed", [1]), ("cut", [])]


def test_a_head_that_was_written_down_finds_what_was_cut_off() -> None:
    """Even with a record that closes the chain anew, or with no record left at all."""
    lines = chain("a", "b")
    anchor = head_after(lines[-1])
    assert wrong(lines, anchor) == []
    assert wrong(lines[:2], anchor) == [("removed", [3, 4])]
    forged = SEAL.seal(head_after(lines[1]), Happening(NOW, "audit.closed", "done", ANYONE)).line
    assert wrong([*lines[:2], forged], anchor) == [("removed", [4])]
    assert wrong([], anchor) == [("removed", [1, 2, 3, 4])]


def test_a_chain_made_anew_as_a_whole_is_found_by_a_head() -> None:
    """It is right in itself, but is not the one that was."""
    forged = chain("x", "b")
    assert wrong(forged, head_after(chain("a", "b")[1])) == [("replaced", [2])]


def test_what_goes_on_after_a_head_needs_no_records_before() -> None:
    """The older files may be elsewhere; it has to follow the head, though."""
    lines = chain("a", "b")
    assert wrong(lines[2:], head_after(lines[1])) == []
    assert wrong(lines[2:], Head("p1", 2, "e" * 64)) == [("replaced", [3])]
    assert wrong(lines[2:]) == [("removed", [1, 2])]


def test_a_process_that_came_back_goes_on_with_the_chain() -> None:
    """If it had closed it, nothing is wrong. If not, a crash or whoever removed its end: only who
    knows that it ended there can say that nothing is.
    """
    lines = chain("a", "x")
    again = chain("b", start=head_after(lines[1]))
    checker = checked([*lines[:2], *again])
    state = checker.chains["p1"]
    assert (state.crashes, state.end) == (1, "closed")
    (finding,) = checker.findings
    assert (finding.what, list(finding.numbers)) == ("cut", [])
    assert "was not closed after record 2, and went on with 3" in finding.detail
    assert wrong([*lines[:2], *again], ended=(head_after(lines[1]),)) == []
    assert wrong([*lines[:2], *again], head_after(lines[1])) == [("cut", [])]
    assert wrong([*lines[:2], *again], ended=(head_after(lines[2]),)) == [
        ("replaced", [3]),
        ("cut", []),
    ]
    assert wrong([*lines, *chain(start=head_after(lines[3]))]) == []


def test_a_chain_that_is_known_to_have_been_killed_is_whole() -> None:
    """It ends there, and nowhere else."""
    lines = chain("a", "b")[:-1]
    ended = (head_after(lines[2]),)
    assert wrong(lines, ended=ended, now=NOW + 1_000) == []
    assert checked(lines, ended=ended, now=NOW + 1_000).chains["p1"].end == "killed"
    assert wrong(lines[:2], ended=ended, now=NOW + 1_000) == [("cut", []), ("removed", [3])]


def test_half_a_line_before_its_process_came_back_is_part_of_the_crash() -> None:
    """What was being written when it was killed; anywhere else it is a finding of its own."""
    lines = chain("a", "x")
    again = chain("b", start=head_after(lines[1]))
    half = lines[2][:30]
    ended = (head_after(lines[1]),)
    assert wrong([*lines[:2], half, *again], ended=ended) == []
    assert wrong([*lines[:2], half, *again]) == [("cut", [])]
    assert wrong([lines[0], half, lines[1], *again], ended=ended) == [("unreadable", [])]
    assert wrong([*lines[:2], half, half, *again], ended=ended) == [("unreadable", [])]
    gone = [*lines[:1], half, *again]
    assert wrong(gone) == [("unreadable", []), ("cut", []), ("removed", [2])]


@pytest.mark.parametrize("kept", [2, 4])
def test_a_chain_that_found_itself_cut_is_no_longer_whole(kept: int) -> None:
    """Whatever somebody says that they know, and though what was left of it was closed."""
    lines = chain("a", "b")[:kept]
    head = head_after(lines[-1])
    opened = SEAL.seal(head, Happening(NOW, "audit.opened", "cut", ANYONE, reason="10"))
    closed = SEAL.seal(opened.head, Happening(NOW, "audit.closed", "done", ANYONE))
    checker = checked([*lines, opened.line, closed.line], ended=(head,))
    assert [each.detail for each in checker.findings] == [
        f"was cut off after record {kept}: its process found that when it came back"
    ]


def test_numbers_beyond_all_bounds_are_named() -> None:
    """A record that claims to be the last of very many breaks nothing."""
    most = 2**64 - 2
    lines = [chain("a")[0], *chain("b", start=Head("p1", most - 2, "e" * 64))[1:]]
    details = [each.detail for each in checked(lines).findings]
    assert details == [f"records 2 to {most - 1} are missing"]


def test_chains_are_apart() -> None:
    """Their lines may be mixed; what is wrong with one is not with the other."""
    one, other = chain("a", "b"), chain("a", "b", name="p2")
    mixed = [line for pair in zip(one, other, strict=True) for line in pair]
    assert wrong(mixed) == []
    findings = checked([line for line in mixed if line != other[1]]).findings
    assert [(each.chain, each.what) for each in findings] == [("p2", "removed")]


def test_no_tampering_goes_unseen() -> None:
    """Any byte changed, any line removed, moved or repeated, of a chain that was closed."""
    drawn = random.Random(7)
    lines = chain(*"abcdefgh")
    for _ in range(300):
        forged = list(lines)
        place = drawn.randrange(len(lines))
        how = drawn.choice(("change", "remove", "swap", "repeat"))
        if how == "change":
            line = bytearray(forged[place])
            at = drawn.randrange(len(line))
            line[at] = (line[at] + drawn.randint(1, 255)) % 256
            forged[place] = bytes(line)
        elif how == "remove":
            del forged[place]
        elif how == "repeat":
            forged.insert(drawn.randrange(len(lines)), forged[place])
        else:
            other = (place + drawn.randrange(1, len(lines))) % len(lines)
            forged[place], forged[other] = forged[other], forged[place]
        assert wrong(forged, now=NOW + 1_000), (how, place)
