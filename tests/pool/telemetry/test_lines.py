from __future__ import annotations

import asyncio
from io import BytesIO
from threading import Thread

from pool.telemetry.lines import PENDING_MAX, LineWriter


class Recorder(BytesIO):
    """A stream that remembers every single write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: object) -> int:
        self.writes.append(bytes(data))  # type: ignore[call-overload]
        return len(self.writes[-1])


class Broken(BytesIO):
    """A stream whose reader has gone."""

    def write(self, data: object) -> int:
        raise BrokenPipeError


async def test_the_lines_of_a_tick_leave_in_one_write() -> None:
    """Lines wait for the end of the loop's tick and then leave together, in order."""
    stream = Recorder()
    lines = LineWriter(stream)
    lines.write(b"one")
    lines.write("two")
    assert stream.writes == []
    await asyncio.sleep(0)
    assert stream.writes == [b"one\ntwo\n"]
    lines.write(b"three")
    await asyncio.sleep(0)
    assert stream.writes[1:] == [b"three\n"]


async def test_a_long_tick_does_not_pile_up_lines() -> None:
    """However long a tick lasts, only so many lines are held."""
    stream = Recorder()
    lines = LineWriter(stream)
    for _ in range(PENDING_MAX + 1):
        lines.write(b"x")
    assert [len(write) for write in stream.writes] == [2 * PENDING_MAX]
    await asyncio.sleep(0)
    assert stream.writes[1:] == [b"x\n"]


def test_without_a_loop_a_line_leaves_at_once() -> None:
    """Before the loop runs and after it, nothing is held back."""
    stream = Recorder()
    LineWriter(stream).write(b"x")
    assert stream.writes == [b"x\n"]


async def test_another_thread_does_not_wait_for_the_loop() -> None:
    """A line from another thread leaves at once, with those that wait for the loop."""
    stream = Recorder()
    lines = LineWriter(stream)
    lines.write(b"loop")
    thread = Thread(target=lines.write, args=(b"thread",))
    thread.start()
    thread.join()
    assert stream.writes == [b"loop\nthread\n"]


async def test_no_line_is_lost_between_threads() -> None:
    """While other threads write and flush, every line of the loop leaves once, in its order."""
    stream = Recorder()
    lines = LineWriter(stream)

    def write(name: str) -> None:
        for number in range(3_000):
            lines.write(f"{name}{number}")

    threads = [Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for number in range(3_000):
        lines.write(f"c{number}")
        if number % 7 == 0:
            await asyncio.sleep(0)
    for thread in threads:
        thread.join()
    await asyncio.sleep(0)
    written = b"".join(stream.writes).decode().split()
    for name in "abc":
        own = [line for line in written if line.startswith(name)]
        assert own == [f"{name}{number}" for number in range(3_000)]


async def test_what_a_flush_took_away_does_not_hold_back_the_next_line() -> None:
    """After a flush by hand, the next line of the loop leaves with its tick again."""
    stream = Recorder()
    lines = LineWriter(stream)
    lines.write(b"one")
    lines.flush()
    lines.write(b"two")
    await asyncio.sleep(0)
    assert stream.writes == [b"one\n", b"two\n"]


def test_what_nobody_takes_is_dropped_and_counted() -> None:
    """A broken pipe stops no turn: its lines are counted and gone."""
    lines = LineWriter(Broken())
    lines.write(b"x")
    assert lines.dropped == 1


def test_a_closed_stream_is_no_error() -> None:
    """After the stream was closed lines are dropped too."""
    stream = BytesIO()
    stream.close()
    lines = LineWriter(stream)
    lines.write(b"x")
    assert lines.dropped == 1


def test_flushing_nothing_writes_nothing() -> None:
    """A flush without lines makes no write."""
    stream = Recorder()
    LineWriter(stream).flush()
    assert stream.writes == []


def test_text_that_is_no_text_is_written_all_the_same() -> None:
    """A lone surrogate in a line is replaced rather than raised about."""
    stream = Recorder()
    LineWriter(stream).write("a\ud800b")
    assert stream.writes == [b"a?b\n"]
