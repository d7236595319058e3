"""The audit log as its users have it: records go in, a chain comes out, nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from pool.errors import ConfigError, StoreUnavailable
from pool.guard.audit import BATCH_MAX, Audit, AuditConfig
from pool.guard.audit_chain import Checker
from pool.guard.audit_heads import kept_head
from pool.guard.audit_records import NO_HASH, Happening, Head, Record, Seal, Sealed, read_line
from pool.guard.budget_notices import BudgetNotice
from pool.observer import AgentStateNotice, InputFlaggedNotice, TurnRefusedNotice
from pool.store.cabinet import Document
from pool.store.memory import MemoryStore
from pool.turn import Principal

NOBODY = Principal("", "", ())
ANN = Principal("acme", "ann", ("user", "admin"))


class Slate:
    """A sink in memory that can be told to fail, or to stand still."""

    def __init__(self, head: Head | None = None) -> None:
        self.head = head
        self.lines: list[bytes] = []
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.tried = asyncio.Event()
        self.closed = False

    async def open(self, chain: str) -> Head | None:
        return self.head

    async def write(self, records: Sequence[Sealed]) -> None:
        self.tried.set()
        await self.may_write.wait()
        if self.error is not None:
            raise self.error
        self.batches.append(len(records))
        self.lines += [record.line for record in records]

    async def close(self) -> None:
        self.closed = True

    @property
    def records(self) -> list[Record]:
        """All that was written."""
        read = [read_line(line) for line in self.lines]
        return [each[1] for each in read if each is not None]

    @property
    def actions(self) -> list[str]:
        """What the records say was done."""
        return [record.action for record in self.records]


@asynccontextmanager
async def opened(slate: Slate, seal: Seal | None = None, **config: Any) -> AsyncIterator[Audit]:
    """An audit log, open until the block is left."""
    audit = Audit(
        slate, chain="p1", seal=seal, config=AuditConfig(**config), wall=lambda: 1_700_000_000.25
    )
    await audit.open()
    try:
        yield audit
    finally:
        await audit.close()


def whole(slate: Slate, seal: Seal | None = None) -> bool:
    """Whether nothing is wrong with what was written."""
    checker = Checker(seal or Seal())
    for line in slate.lines:
        checker.read("here", line)
    checker.end(1_700_000_000.25)
    return checker.findings == []


async def test_a_record_has_who_what_and_what_came_of_it() -> None:
    """And the digest of arguments, never themselves; all between the chain's beginning and end."""
    slate = Slate()
    async with opened(slate) as audit:
        digest = audit.digest({"to": "secret@example.com"})
        audit.record("tool.call", "denied", ANN, "tool:mail", "r1", digest, reason="risk")
    begin, record, end = slate.records
    assert (begin.action, begin.outcome, begin.number) == ("audit.opened", "new", 1)
    assert (record.tenant, record.user, record.roles) == ("acme", "ann", ("user", "admin"))
    assert (record.action, record.outcome, record.reason) == ("tool.call", "denied", "risk")
    assert (record.subject, record.request_id, record.at) == ("tool:mail", "r1", 1_700_000_000.25)
    assert record.arguments == digest == audit.digest({"to": "secret@example.com"})
    assert (end.action, end.number) == ("audit.closed", 3)
    assert b"secret@" not in b"".join(slate.lines)
    assert whole(slate)
    assert slate.closed


async def test_digests_differ_with_the_arguments_and_with_the_key() -> None:
    """The order of the arguments' names is no difference."""
    plain, keyed = Seal(), Seal(b"k" * 32)
    assert plain.digest({"a": 1, "b": 2}) == plain.digest({"b": 2, "a": 1})
    assert plain.digest({"a": 1}) != plain.digest({"a": 2})
    assert plain.digest({"a": 1}) != keyed.digest({"a": 1})
    assert plain.digest({"a": object()}) == plain.digest({"a": "<object>"})


async def test_nobody_has_a_record_sealed_as_arguments() -> None:
    """Arguments that look like a record have another hash than the record would have."""
    seal = Seal(b"k" * 32)
    sealed = seal.seal(Head("p1", 0, ""), Happening(1.0, "turn.accept", "accepted", ANN))
    read = read_line(sealed.line)
    assert read is not None
    arguments = msgspec.json.decode(read[0].record)
    assert msgspec.json.encode(arguments) == bytes(read[0].record)
    assert seal.hash("", bytes(read[0].record)) == sealed.head.hash
    assert seal.digest(arguments) != sealed.head.hash


async def test_without_the_key_a_sealed_chain_cannot_be_made() -> None:
    """What was sealed with it is whole only to who has it; a short key is refused."""
    slate = Slate()
    async with opened(slate, Seal(b"k" * 32)) as audit:
        audit.record("turn.accept", "accepted", ANN)
    assert whole(slate, Seal(b"k" * 32))
    assert not whole(slate)
    assert not whole(slate, Seal(b"l" * 32))
    assert "kkk" not in repr(Seal(b"k" * 32))
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Seal(b"k" * 31)


async def test_records_are_written_in_batches_in_their_order() -> None:
    """What comes within a moment is one write; a flood is several of a bounded size."""
    slate = Slate()
    async with opened(slate) as audit:
        for number in range(2 * BATCH_MAX):
            audit.record("turn.accept", "accepted", ANN, f"turn:{number}")
        assert slate.lines == []
    turns = [record.subject for record in slate.records[1:-1]]
    assert turns == [f"turn:{number}" for number in range(2 * BATCH_MAX)]
    assert slate.batches == [BATCH_MAX, BATCH_MAX, 2]
    assert whole(slate)


async def test_a_flood_is_written_without_a_pause() -> None:
    """Full batches follow each other at once, and others have their turn in between."""
    slate = Slate()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while len(slate.batches) < 40:
            ticks += 1
            await asyncio.sleep(0)

    async with opened(slate, buffer_max=40 * BATCH_MAX) as audit:
        began = asyncio.get_running_loop().time()
        for _ in range(40 * BATCH_MAX - 1):
            audit.record("turn.accept", "accepted", ANN)
        await tick()
        assert asyncio.get_running_loop().time() == began
    assert ticks >= 40


async def test_a_chain_goes_on_where_it_was_left() -> None:
    """With the number and the hash of its last record, under its own name."""
    slate = Slate(Head("old", 7, "f" * 64))
    async with opened(slate) as audit:
        pass
    first = slate.records[0]
    assert (first.chain, first.number, first.prev) == ("old", 8, "f" * 64)
    assert first.outcome == "continued"
    assert audit.head.number == 9


async def test_who_has_nothing_to_say_says_that() -> None:
    """A process that lives leaves a record at least every `alive_s`."""
    slate = Slate()
    async with opened(slate, alive_s=30.0):
        await asyncio.sleep(100)
    assert slate.actions == ["audit.opened", *["audit.alive"] * 3, "audit.closed"]
    assert slate.records[1].reason == "30"


async def test_turns_are_refused_while_the_log_cannot_be_written() -> None:
    """And taken again when it can; what waited meanwhile is written, once."""
    slate = Slate()
    with capture_logs() as logs:
        async with opened(slate) as audit:
            audit.check()
            slate.error = StoreUnavailable("the disk is full")
            audit.record("turn.accept", "accepted", ANN)
            await asyncio.sleep(5)
            with pytest.raises(StoreUnavailable, match="no turn is taken") as refused:
                audit.check()
            assert refused.value.retry_after_s == 1.0
            assert "failing" in repr(audit)
            slate.error = None
            await asyncio.sleep(2)
            audit.check()
    assert slate.actions == ["audit.opened", "turn.accept", "audit.closed"]
    assert whole(slate)
    said = [(log["event"], log.get("error")) for log in logs if log["log_level"] != "info"]
    assert said == [
        ("the audit log cannot be written", "the disk is full"),
        ("the audit log can be written again", None),
    ]


async def test_turns_go_on_unrecorded_where_that_is_wanted() -> None:
    """With `warn` nothing is refused; the log says so."""
    slate = Slate()
    with capture_logs() as logs:
        async with opened(slate, unwritable="warn") as audit:
            slate.error = StoreUnavailable("the disk is full")
            await asyncio.sleep(5)
            audit.check()
            slate.error = None
    assert logs[0]["turns"] == "go on unrecorded"


async def test_records_beyond_the_buffer_are_counted_in_the_log() -> None:
    """Memory is bounded; that records are missing is itself a record."""
    slate = Slate()
    slate.error = StoreUnavailable("the disk is full")
    with capture_logs() as logs:
        async with opened(slate, buffer_max=3) as audit:
            for number in range(10):
                audit.record("turn.accept", "accepted", ANN, f"turn:{number}")
            with pytest.raises(StoreUnavailable):
                audit.check()
            await asyncio.sleep(5)
            slate.error = None
            await asyncio.sleep(5)
            audit.check()
    assert slate.actions == [
        "audit.opened",
        *["turn.accept"] * 2,
        "audit.lost",
        "audit.closed",
    ]
    assert slate.records[3].reason == "8"
    assert whole(slate)
    assert [log["event"] for log in logs].count("audit records are lost") == 1


def refuse(audit: Audit, who: Principal, number: int) -> None:
    """So many times somebody is refused."""
    for _ in range(number):
        audit.record_refusal("authenticate", who, "client:192.0.2.1", "r", reason="unauthenticated")


async def test_strangers_cannot_have_turns_refused() -> None:
    """They take half of the buffer at most, however fast they come: no record of others is lost,
    and turns are taken.
    """
    slate = Slate()
    async with opened(slate, buffer_max=100) as audit:
        refuse(audit, NOBODY, 10_000)
        for number in range(40):
            audit.record("turn.accept", "accepted", ANN, f"turn:{number}")
        audit.check()
    assert slate.actions.count("turn.accept") == 40
    assert slate.actions.count("authenticate") == 50
    assert "audit.lost" not in slate.actions
    assert slate.records[-2].reason == "9951 others"
    assert whole(slate)


async def test_of_many_refusals_in_a_second_most_are_a_number() -> None:
    """A hundred have a record of their own, and the disk is not filled; each tenant has its own
    hundred, and in the next second a new one.
    """
    slate, now = Slate(), [1_700_000_000.25]
    audit = Audit(slate, chain="p1", wall=lambda: now[0])
    await audit.open()
    refuse(audit, NOBODY, 130)
    refuse(audit, ANN, 120)
    await asyncio.sleep(1)
    assert slate.actions.count("authenticate") == 200
    now[0] += 1
    refuse(audit, NOBODY, 1)
    await asyncio.sleep(1)
    said = [(each.tenant, each.reason) for each in slate.records if "others" in each.reason]
    assert said == [("", "30 others"), ("acme", "20 others")]
    assert slate.actions.count("authenticate") == 203
    refuse(audit, NOBODY, 101)
    await audit.close()
    assert slate.records[-2].reason == "2 others"
    assert whole(slate)


async def test_refusals_of_a_closed_log_are_no_loss() -> None:
    """A server that ends refuses until its end: nothing is to be said of that."""
    slate = Slate()
    with capture_logs() as logs:
        async with opened(slate) as audit:
            await audit.close()
            refuse(audit, NOBODY, 3)
    assert [log for log in logs if log["log_level"] == "error"] == []


async def test_what_is_noted_of_refused_turns_and_inputs_is_bounded() -> None:
    """A tenant that is refused again and again fills no disk; nor do budgets and the screen."""
    slate = Slate()
    spent = BudgetNotice("echo", "refused", "day", "tokens", "acme", "day:1", 10, 10, 100)
    flagged = InputFlaggedNotice("echo", "refuse", ("r",), ANN, "s", "r1")
    async with opened(slate) as audit:
        for _ in range(150):
            audit.notice(TurnRefusedNotice("echo", "overloaded", "acme"))
            audit.notice(spent)
            audit.notice(flagged)
    for action in ("turn.accept", "budget.spend", "input.screen"):
        assert slate.actions.count(action) == 101


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("alert", "alerted"), ("warned", "warned"), ("cheaper", "cheaper"), ("refused", "refused")],
)
async def test_what_a_budget_did_is_noted(outcome: Any, said: str) -> None:
    """Which one, in whose name, and how far it was spent."""
    slate = Slate()
    async with opened(slate) as audit:
        audit.notice(BudgetNotice("echo", outcome, "day", "tokens", "acme", "day:1", 9, 10, 90))
    (record,) = slate.records[1:-1]
    assert (record.action, record.outcome, record.user) == ("budget.spend", said, "")
    assert record.subject == "budget:day acme"
    assert record.reason == "agent:echo 90% of the tokens of day:1"


async def test_flagged_inputs_are_noted() -> None:
    """With the rules, and whether the turn went on."""
    slate = Slate()
    async with opened(slate) as audit:
        for action in ("flag", "refuse"):
            audit.notice(InputFlaggedNotice("echo", action, ("a", "b"), ANN, "s", "r1"))
    said = [(each.action, each.outcome, each.reason, each.user) for each in slate.records[1:-1]]
    assert said == [
        ("input.screen", "flagged", "a b", "ann"),
        ("input.screen", "refused", "a b", "ann"),
    ]


async def test_how_far_the_log_goes_is_said_elsewhere() -> None:
    """In the process's own log, as `--head` takes it: on the way, at its end, and what it found."""
    slate = Slate(Head("old", 7, "f" * 64))
    with capture_logs() as logs:
        async with opened(slate, alive_s=30.0) as audit:
            for _ in range(70):
                audit.record("turn.accept", "accepted", ANN)
                await asyncio.sleep(1)
    heads = [log["head"] for log in logs if log["log_level"] == "info"]
    assert heads[0] == f"old:7:{'f' * 64}"
    assert heads[-1] == f"old:{audit.head.number}:{audit.head.hash}"
    assert len(heads) == 2 + 3
    known = {f"{r.chain}:{r.number - 1}:{r.prev}" for r in slate.records}
    assert set(heads[:-1]) <= known


@pytest.mark.parametrize(
    ("kept", "outcome"),
    [
        (Head("old", 6, "e" * 64), "continued"),
        (Head("old", 7, "f" * 64), "continued"),
        (Head("old", 7, "e" * 64), "cut"),
        (Head("old", 9, "f" * 64), "cut"),
        (None, "continued"),
    ],
)
async def test_a_log_that_was_cut_while_nobody_wrote_it_says_so(
    kept: Head | None, outcome: str
) -> None:
    """By how far the store knows it to go: its first record says it, and so does a finding."""
    store, slate = MemoryStore(), Slate(Head("old", 7, "f" * 64))
    if kept is not None:
        await store.put("auditfile", [Document("old", msgspec.json.encode(kept))])
    with capture_logs() as logs:
        audit = Audit(slate, chain="p1", heads=store)
        await audit.open()
        await audit.close()
    assert (slate.records[0].action, slate.records[0].outcome) == ("audit.opened", outcome)
    errors = [log["event"] for log in logs if log["log_level"] == "error"]
    assert errors == ["the audit log was changed while nobody wrote it"] * (outcome == "cut")
    assert await kept_head(store, "old") == audit.head


async def test_a_head_that_cannot_be_read_is_farther_than_any() -> None:
    """Whoever spoils what the store knows does not hide a cut."""
    store, slate = MemoryStore(), Slate(Head("old", 7, "f" * 64))
    await store.put("auditfile", [Document("old", b"?")])
    audit = Audit(slate, chain="p1", heads=store)
    await audit.open()
    await audit.close()
    assert slate.records[0].outcome == "cut"


async def test_a_store_that_is_away_is_no_reason_to_write_no_more() -> None:
    """How far the log goes is then known by the process's own log alone."""

    class Away(MemoryStore):
        async def put(self, kind: str, documents: Sequence[Document]) -> None:
            raise StoreUnavailable("the store is away")

    slate = Slate()
    with capture_logs() as logs:
        audit = Audit(slate, chain="p1", heads=Away())
        await audit.open()
        audit.record("turn.accept", "accepted", ANN)
        await audit.close()
    assert slate.actions == ["audit.opened", "turn.accept", "audit.closed"]
    assert {log["error"] for log in logs if log["log_level"] == "warning"} == {"store_unavailable"}


async def test_a_defect_of_the_sink_is_no_end_of_the_log() -> None:
    """Whatever it raises, it is tried again, and its text is not logged."""
    slate = Slate()
    slate.error = RuntimeError("secret")
    with capture_logs() as logs:
        async with opened(slate) as audit:
            await asyncio.sleep(3)
            with pytest.raises(StoreUnavailable):
                audit.check()
            slate.error = None
            await asyncio.sleep(3)
    assert slate.actions == ["audit.opened", "audit.closed"]
    assert all(log.get("error") in (None, "RuntimeError") for log in logs)


async def test_what_cannot_be_written_at_the_end_does_not_hold_the_process() -> None:
    """Closing takes no longer than the grace, and says what was lost."""
    slate = Slate()
    slate.may_write.clear()
    with capture_logs() as logs:
        async with opened(slate) as audit:
            audit.record("turn.accept", "accepted", ANN)
            began = asyncio.get_running_loop().time()
            await audit.close(grace_s=2.0)
            assert asyncio.get_running_loop().time() - began == pytest.approx(2.0)
    (error,) = (log for log in logs if log["log_level"] == "error")
    assert error["event"] == "the audit log was not closed in time"
    assert error["records_lost"] == 3
    assert slate.closed


async def test_a_sink_that_does_not_close_is_told() -> None:
    """Once it fails, once it takes too long; neither holds the process."""

    class Failing(Slate):
        async def close(self) -> None:
            raise StoreUnavailable("the disk is gone")

    class Endless(Slate):
        async def close(self) -> None:
            await asyncio.Event().wait()

    for slate, event in (
        (Failing(), "the audit log was not closed"),
        (Endless(), "the audit log was not closed in time"),
    ):
        with capture_logs() as logs:
            async with opened(slate):
                pass
        assert [log["event"] for log in logs if log["log_level"] == "error"] == [event]


async def test_what_comes_after_the_end_is_lost_and_said() -> None:
    """A closed log keeps nothing; closing it again does nothing."""
    slate = Slate()
    with capture_logs() as logs:
        async with opened(slate) as audit:
            await audit.close()
            audit.record("turn.accept", "accepted", ANN)
    assert slate.actions == ["audit.opened", "audit.closed"]
    assert [log["why"] for log in logs if log["log_level"] == "error"] == ["it is closed"]


@pytest.mark.parametrize("length", [1, 200, 255, 256, 257, 300])
@pytest.mark.parametrize("field", ["action", "outcome", "subject", "request_id", "reason"])
def test_each_text_of_a_record_is_cut(field: str, length: int) -> None:
    """Wherever it is, and however short the rest is; what is shorter stays as it is."""
    happening = replace(Happening(0.0, "", "", Principal("", "", ())), **{field: "x" * length})
    read = read_line(Seal().seal(Head("c", 0, NO_HASH), happening).line)
    assert read is not None and getattr(read[1], field) == "x" * min(length, 256)


def test_a_record_has_so_many_roles() -> None:
    """The first ones, however short they are."""
    happening = Happening(0.0, "a", "o", Principal("t", "u", ("r",) * 33))
    read = read_line(Seal().seal(Head("c", 0, NO_HASH), happening).line)
    assert read is not None and read[1].roles == ("r",) * 32


@pytest.mark.parametrize("text", ["plain", "\u20ac\U0001f600", '"\\/\n\x00', "\udc80"])
def test_a_line_is_what_its_type_says(text: str) -> None:
    """The same bytes as if all of it were encoded at once."""
    sealed = Seal().seal(Head("c", 0, NO_HASH), Happening(1.5, text, text, ANN, text, text))
    read = read_line(sealed.line)
    assert read is not None and msgspec.json.encode(read[0]) == sealed.line


async def test_texts_are_cut_and_made_writable() -> None:
    """Whatever is in them, a record can be written, and is small."""
    slate = Slate()
    hostile = Principal("\ud800", "u" * 10_000, ("r" * 1_000,) * 1_000)
    async with opened(slate) as audit:
        audit.record("a" * 1_000, "o", hostile, "\x00\n" + "s" * 10_000)
    record = slate.records[1]
    assert (record.tenant, record.user, len(record.roles)) == ("?", "u" * 256, 32)
    assert (len(record.action), record.subject[:3]) == (256, "\x00\ns")
    assert b"\n" not in slate.lines[1]
    assert whole(slate)


async def test_refusals_of_a_pool_are_noted() -> None:
    """As an observer; what else it is told is not its business."""
    slate = Slate()
    async with opened(slate) as audit:
        audit.notice(TurnRefusedNotice("echo", "overloaded", "acme"))
        audit.notice(AgentStateNotice("echo", "degraded", "it does not open"))
    (record,) = slate.records[1:-1]
    assert (record.action, record.outcome, record.reason) == (
        "turn.accept",
        "refused",
        "overloaded",
    )
    assert (record.tenant, record.subject) == ("acme", "agent:echo")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("unwritable", "panic"),
        ("buffer_max", 0),
        ("batch_s", 0.0),
        ("alive_s", float("nan")),
        ("retry_s", -1.0),
    ],
)
def test_mistakes_in_the_configuration_are_named(option: str, value: Any) -> None:
    """With the option, when it is made."""
    with pytest.raises(ConfigError, match=option):
        AuditConfig(**{option: value})
