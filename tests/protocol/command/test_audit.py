"""The commands about the audit log as processes: on files, and on a store."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest

from pool.guard.audit import Audit, Sink
from pool.guard.audit_file import FileSink
from pool.guard.audit_records import Head, Seal, head_of
from pool.guard.audit_store import StoreSink
from pool.store.base import Store
from pool.turn import Principal
from tests.protocol.command.test_cli_store import STORE, stored
from tests.support.process import completed

pytestmark = pytest.mark.real_time

NAME = "audit.jsonl"
KEY = b"a key of thirty-two bytes or more"


async def life(
    sink: Sink,
    *,
    key: bytes | None = None,
    at: float = 1_700_000_000.0,
    user: str = "ann",
    heads: Store | None = None,
    chain: str = "p1",
) -> Head:
    """A process leaves two records and closes its log."""
    seal = Seal(key)
    audit = Audit(sink, chain=chain, seal=seal, heads=heads, wall=lambda: at)
    await audit.open()
    who = Principal("acme", user, ("user", "admin"))
    audit.record("turn.accept", "accepted", who, "turn:t1", "r1")
    audit.record("tool.call", "denied", who, "tool:mail", "r1", "d" * 64, reason="risk")
    await audit.close()
    return audit.head


def verified(directory: Path, *arguments: str) -> tuple[int, list[str]]:
    """The exit code and the lines of `actorpool audit verify`."""
    done = completed("audit", "verify", *arguments, directory=directory)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def refused(directory: Path, *arguments: str) -> str:
    """What the command says is wrong with how it was called."""
    done = completed("audit", *arguments, directory=directory)
    assert done.returncode == 1
    return done.stderr


async def test_a_whole_file_is_whole(tmp_path: Path) -> None:
    """Through two lives of a process; and what was in it is summed up."""
    for _ in range(2):
        await life(FileSink(tmp_path / NAME))
    assert verified(tmp_path, NAME) == (
        0,
        [
            "p1: 8 records, 2023-11-14T22:13:20.000Z to 2023-11-14T22:13:20.000Z, closed",
            "nothing is wrong",
        ],
    )


async def test_tampering_is_named(tmp_path: Path) -> None:
    """A changed record, a removed one, and a log that was cut off."""
    path = tmp_path / NAME
    await life(FileSink(path))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines).replace(b'"denied"', b'"allowd"'))
    assert verified(tmp_path, NAME)[1][1:] == ["p1: record 3 is not as it was written"]
    path.write_bytes(lines[0] + lines[2] + lines[3])
    assert verified(tmp_path, NAME)[1][1:] == ["p1: record 2 is missing"]
    path.write_bytes(lines[0] + lines[1])
    code, said = verified(tmp_path, NAME)
    assert code == 1
    assert "p1: ends after record 2 without having been closed" in said[1]


async def test_rotated_files_are_one_log(tmp_path: Path) -> None:
    """In whatever order they are named, packed or not; without the older one records are missing,
    unless its head is known.
    """
    path = tmp_path / NAME
    head = await life(FileSink(path))
    await life(FileSink(path))
    lines = path.read_bytes().splitlines(keepends=True)
    with gzip.open(tmp_path / f"{NAME}.1.gz", "wb") as old:
        old.write(b"".join(lines[:4]))
    path.write_bytes(b"".join(lines[4:]))
    assert verified(tmp_path, NAME, f"{NAME}.1.gz")[0] == 0
    assert verified(tmp_path, NAME)[1][1:] == ["p1: records 1 to 4 are missing"]
    assert verified(tmp_path, NAME, "--head", f"p1:4:{head.hash}")[0] == 0
    assert verified(tmp_path, NAME, "--head", f"p1:8:{head.hash}")[1][1] == (
        "p1: record 8 is not the one that was written down elsewhere"
    )


async def test_a_log_that_was_cut_before_a_restart_is_found(tmp_path: Path) -> None:
    """Its process seals whatever end it finds: but a chain that was not closed is told of, whoever
    has the key; only who knows that it was a crash can say so.
    """
    path = tmp_path / NAME
    head = await life(FileSink(path), key=KEY)
    (tmp_path / "key").write_bytes(KEY)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    cut_at = head_of(lines[1])
    await life(FileSink(path), key=KEY)
    code, said = verified(tmp_path, NAME, "--key-file", "key")
    assert (code, len(said)) == (1, 2)
    assert "p1: was not closed after record 2, and went on with 3" in said[1]
    assert cut_at is not None and head.number == 4
    ended = ("--ended", f"p1:2:{cut_at.hash}")
    assert verified(tmp_path, NAME, "--key-file", "key", *ended)[0] == 0


async def test_files_are_compared_with_what_the_store_knows(tmp_path: Path) -> None:
    """Who cuts off the end of a file, closes it anew or not, does not change that."""
    path = tmp_path / NAME
    async with stored(tmp_path) as store:
        await life(FileSink(path), heads=store)
        await life(FileSink(tmp_path / "other"), heads=store, chain="p2")
    assert verified(tmp_path, NAME, *STORE)[0] == 0
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    code, said = verified(tmp_path, NAME, *STORE)
    assert (code, said[-1]) == (1, "p1: records 3 to 4 are missing at the end")
    async with stored(tmp_path) as store:
        await life(FileSink(path), heads=store)
    code, said = verified(tmp_path, NAME)
    assert code == 1
    assert "was cut off after record 2: its process found that when it came back" in said[-1]


@pytest.mark.parametrize("how", ["cut", "garbled", "no gzip"])
async def test_a_damaged_packed_file_is_said(tmp_path: Path, how: str) -> None:
    """In a line with what to do, by both commands."""
    await life(FileSink(tmp_path / NAME))
    data = gzip.compress((tmp_path / NAME).read_bytes())
    half = len(data) // 2
    damaged = {
        "cut": data[:half],
        "garbled": data[:half] + b"\xff" * 64 + data[half + 64 :],
        "no gzip": b"x" * 100,
    }
    (tmp_path / "audit.gz").write_bytes(damaged[how])
    for what in ("verify", "export"):
        said = refused(tmp_path, what, "audit.gz")
        assert "FILE = 'audit.gz'" in said
        assert len(said.splitlines()) == 1


async def test_a_sealed_log_needs_its_key(tmp_path: Path) -> None:
    """Without it, or with another, nothing in it is genuine."""
    await life(FileSink(tmp_path / NAME), key=KEY)
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert verified(tmp_path, NAME, "--key-file", "key")[0] == 0
    assert verified(tmp_path, NAME)[0] == 1
    (tmp_path / "key").write_bytes(b"short")
    said = refused(tmp_path, "verify", NAME, "--key-file", "key")
    assert "at least 32 bytes" in said
    assert "short" not in said.replace("key-file", "")


async def test_a_log_in_a_store_is_verified_and_exported(tmp_path: Path) -> None:
    """Also that its end was removed, by the head that the store has apart from it."""
    async with stored(tmp_path) as store:
        await life(StoreSink(store))
    assert verified(tmp_path, *STORE)[0] == 0
    done = completed("audit", "export", *STORE, directory=tmp_path)
    assert len(done.stdout.splitlines()) == 4
    async with stored(tmp_path) as store:
        await store.remove("audit-p1", f"{4:020d}")
    code, said = verified(tmp_path, *STORE)
    assert (code, said[-1]) == (1, "p1: record 4 is missing at the end")


async def test_a_store_without_a_log_is_not_whole(tmp_path: Path) -> None:
    """No records are no proof of anything."""
    async with stored(tmp_path):
        pass
    assert verified(tmp_path, *STORE) == (1, ["there are no records"])


async def test_records_are_exported_as_json(tmp_path: Path) -> None:
    """One object a line, from a time on; what is no record is told apart."""
    path = tmp_path / NAME
    await life(FileSink(path))
    await life(FileSink(path), at=1_800_000_000.0)
    with path.open("ab") as file:
        file.write(b"half\n")
    since = ("--since", "2026-01-01")
    done = completed("audit", "export", NAME, *since, directory=tmp_path)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["number"] for record in records] == [5, 6, 7, 8]
    assert records[2]["action"] == "tool.call"
    assert records[2]["at"] == "2027-01-15T08:00:00.000Z"
    assert (records[2]["roles"], records[2]["arguments"]) == (["user", "admin"], "d" * 64)
    assert done.stderr == f"actorpool: line 9 of {NAME} is no record\n"


async def test_records_are_exported_as_a_table(tmp_path: Path) -> None:
    """Nothing in it is taken for a formula by a spreadsheet."""
    await life(FileSink(tmp_path / NAME), user="=cmd()")
    done = completed("audit", "export", NAME, "--csv", directory=tmp_path)
    head, _, accepted, denied, _ = csv.reader(done.stdout.splitlines())
    assert head[:4] == ["at", "action", "outcome", "tenant"]
    assert accepted[1:6] == ["turn.accept", "accepted", "acme", "'=cmd()", "user admin"]
    assert denied[7:10] == ["risk", "r1", "d" * 64]


async def test_what_was_asked_wrongly_is_said(tmp_path: Path) -> None:
    """In a line, with the option and the remedy."""
    await life(FileSink(tmp_path / NAME))
    assert "there is no such file" in refused(tmp_path, "verify", NAME, *STORE)
    assert "CHAIN:NUMBER:HASH" in refused(tmp_path, "verify", NAME, "--ended", "p1:x:y")
    assert "CHAIN:NUMBER:HASH" in refused(tmp_path, "verify", NAME, "--head", "p1:x:y")
    assert "No such file" in refused(tmp_path, "verify", "other")
    assert "No such file" in refused(tmp_path, "verify", NAME, "--key-file", "other")
    assert "write a time" in refused(tmp_path, "export", NAME, "--since", "noon")
    assert "there is no such file" in refused(tmp_path, "verify", *STORE)
