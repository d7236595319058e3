"""The audit log in a file: only ever added to, one process at a time, rotated by renaming."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from pool.errors import ConfigError, StoreUnavailable
from pool.guard.audit import Audit
from pool.guard.audit_chain import Checker
from pool.guard.audit_file import FileSink, check_file
from pool.guard.audit_records import NO_HASH, Happening, Head, Seal, Sealed
from pool.turn import ANYONE

pytestmark = pytest.mark.real_time

NAME = "audit.jsonl"
# a user that owns nothing
NOBODY = 65534


def sealed(count: int) -> list[Sealed]:
    """So many records of a new chain."""
    head = Head("p1", 0, NO_HASH)
    records = []
    for _ in range(count):
        record = Seal().seal(head, Happening(1.0, "turn.accept", "accepted", ANYONE))
        head = record.head
        records.append(record)
    return records


@contextmanager
def somebody() -> Iterator[None]:
    """Not root, who may write everywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def findings(*paths: Path) -> list[str]:
    """What is wrong with the log in these files, besides that nobody closed it."""
    checker = Checker(Seal())
    for path in paths:
        for line in path.read_bytes().splitlines():
            checker.read(path.name, line)
    checker.end(1.0)
    return [finding.detail for finding in checker.findings]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within it this process can make no file larger than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("fsync", ["always", "never"])
async def test_a_log_goes_on_in_its_file(tmp_path: Path, fsync: str) -> None:
    """Through two lives of a process it is one chain, readable by its owner only."""
    path = tmp_path / NAME
    for name in ("p1", "p2"):
        audit = Audit(FileSink(path, fsync="always" if fsync == "always" else "never"), chain=name)
        await audit.open()
        audit.record("turn.accept", "accepted", ANYONE)
        await audit.close()
        assert audit.head.chain == "p1"
    assert len(path.read_bytes().splitlines()) == 6
    assert findings(path) == []
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_belongs_to_one_process(tmp_path: Path) -> None:
    """A second one is refused, and takes nothing from the first."""
    first, second = FileSink(tmp_path / NAME), FileSink(tmp_path / NAME)
    await first.open("p1")
    with pytest.raises(ConfigError, match="another process"):
        await second.open("p2")
    await second.close()
    await first.write(sealed(1))
    await first.close()
    assert findings(tmp_path / NAME) == []


async def test_a_process_waits_for_a_file_that_another_has(tmp_path: Path) -> None:
    """As long as it was told to; commands follow each other so."""
    first = FileSink(tmp_path / NAME)
    await first.open("p1")
    impatient = FileSink(tmp_path / NAME, wait_s=0.1)
    with pytest.raises(ConfigError, match="another process"):
        await impatient.open("p2")
    await impatient.close()
    second = FileSink(tmp_path / NAME, wait_s=20.0)
    opening = asyncio.ensure_future(second.open("p2"))
    await asyncio.sleep(0)
    await first.write(sealed(1))
    await first.close()
    head = await opening
    assert head is not None and head.number == 1
    await second.close()


async def test_a_file_is_checked_without_being_touched(tmp_path: Path) -> None:
    """One that is not there is not made; one that a process writes, or was killed at, is one."""
    path = tmp_path / NAME
    check_file(path)
    assert not path.exists()
    sink = FileSink(path)
    await sink.open("p1")
    check_file(path)
    await sink.write(sealed(1))
    await sink.close()
    torn = path.read_bytes() + b"{"
    path.write_bytes(torn)
    check_file(path)
    assert path.read_bytes() == torn


def test_a_file_that_may_not_be_made_is_found_out() -> None:
    """As is one that may not be written."""
    with TemporaryDirectory() as name:
        place = Path(name)
        (place / NAME).touch(mode=0o400)
        (place / "closed").mkdir(mode=0o555)
        place.chmod(0o755)
        for path in (place / NAME, place / "closed" / NAME):
            with (
                somebody(),
                pytest.raises(ConfigError, match="cannot be opened: Permission denied"),
            ):
                check_file(path)


async def test_each_batch_is_on_the_disk_before_the_next_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `always`; with `never` that is left to the system."""
    synced: list[int] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    records = sealed(2)
    for place, how in enumerate(("always", "never")):
        path = tmp_path / f"{place}.jsonl"
        sink = FileSink(path, fsync="always" if how == "always" else "never")
        await sink.open("p1")
        for record in records:
            await sink.write([record])
        await sink.close()
    first = len(records[0].line) + 1
    assert synced == [first, first + len(records[1].line) + 1]


async def test_a_log_goes_on_in_a_new_file_when_it_was_renamed(tmp_path: Path) -> None:
    """Nothing is lost in between, and both files together are whole."""
    path, old = tmp_path / NAME, tmp_path / f"{NAME}.1"
    sink = FileSink(path)
    await sink.open("p1")
    records = sealed(4)
    await sink.write(records[:2])
    path.rename(old)
    await sink.write(records[2:])
    await sink.close()
    assert findings(old, path) == []
    assert findings(path) == ["records 1 to 2 are missing"]


async def test_a_new_file_that_another_process_took_is_not_written(tmp_path: Path) -> None:
    """The batch is kept for when it can be."""
    path = tmp_path / NAME
    sink, other = FileSink(path), FileSink(path)
    await sink.open("p1")
    path.rename(tmp_path / "old")
    await other.open("p2")
    with pytest.raises(StoreUnavailable, match="another process"):
        await sink.write(sealed(1))
    await other.close()
    await sink.write(sealed(1))
    await sink.close()
    assert findings(path) == []


async def test_a_batch_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    """When there is no room what was written of it is taken back; later it is there once."""
    path = tmp_path / NAME
    sink = FileSink(path)
    await sink.open("p1")
    records = sealed(20)
    await sink.write(records[:1])
    size = path.stat().st_size
    with largest_file(size + 1_000), pytest.raises(StoreUnavailable, match="File too large"):
        await sink.write(records[1:])
    assert path.stat().st_size == size
    await sink.write(records[1:])
    await sink.close()
    assert findings(path) == []


async def test_half_a_line_of_a_crash_is_left_and_found(tmp_path: Path) -> None:
    """The chain goes on after the last whole record; nothing is appended to the half."""
    path = tmp_path / NAME
    records = sealed(2)
    path.write_bytes(records[0].line + b"\n" + records[1].line[:40])
    sink = FileSink(path)
    assert await sink.open("p9") == records[0].head
    await sink.write(records[1:])
    await sink.close()
    assert findings(path) == [f"{NAME} is no record"]


async def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """It is refused when it is opened, as is a directory, or a place that is not there."""
    path = tmp_path / NAME
    path.write_text("[server]\n")
    for there, why in (
        (path, "is no audit log"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none" / NAME, "No such file"),
    ):
        sink = FileSink(there)
        with pytest.raises(ConfigError, match=why):
            await sink.open("p1")
        await sink.close()
    assert path.read_text() == "[server]\n"


async def test_the_head_is_found_at_the_end_of_a_long_file(tmp_path: Path) -> None:
    """However long it is, only its end is read."""
    path = tmp_path / NAME
    records = sealed(1_000)
    path.write_bytes(b"".join(record.line + b"\n" for record in records))
    sink = FileSink(path)
    assert await sink.open("p9") == records[-1].head
    await sink.close()
    assert str(path) in repr(sink)


async def test_nothing_is_left_open(tmp_path: Path) -> None:
    """After the log is closed the process has no more files open than before."""
    before = psutil.Process().num_fds()
    sink = FileSink(tmp_path / NAME)
    await sink.open("p1")
    (tmp_path / NAME).rename(tmp_path / "old")
    await sink.write(sealed(1))
    await sink.close()
    assert psutil.Process().num_fds() == before
