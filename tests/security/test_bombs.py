"""What is small on the wire and large in memory, or large on both. FAULTS row 22."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.security.raw import HANDSHAKE, JSON, TURNS, connected, request, said
from tests.support.process import command
from tests.support.sockets import frame, wired

pytestmark = pytest.mark.real_time(20)

MEGABYTE = 2**20
HUGE = 100 * MEGABYTE
# What all attacks together may cost the server beyond what it has at rest.
MOST_MORE = 48 * MEGABYTE
AT_ONCE = 4
HELLO = frame(0x1, b'{"type":"hello"}')


def _deflated(head: bytes, tail: bytes, bits: int) -> bytes:
    """100 MB of spaces between two pieces of JSON."""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    pieces = [packer.compress(head)]
    pieces += [packer.compress(b" " * MEGABYTE) for _ in range(HUGE // MEGABYTE)]
    return b"".join([*pieces, packer.compress(tail), packer.flush(zlib.Z_SYNC_FLUSH)])


INPUT = (b'{"input":"x"', b"}")
BOMB = _deflated(*INPUT, bits=15)
RAW_BOMB = _deflated(b'{"type":"ping"', b"}", bits=-15)
ENDLESS = request(
    "POST", TURNS, JSON, "Transfer-Encoding: chunked", body=b"%x\r\n" % HUGE + b" " * 4 * MEGABYTE
)
TWO = 2 * MEGABYTE


def _post(body: bytes, *headers: str) -> bytes:
    return request(
        "POST",
        TURNS,
        JSON,
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
        body=body,
    )


BODIES = {
    "2 MB": (_post(b" " * TWO), 413),
    "2 MB that are only announced": (request("POST", TURNS, JSON, f"Content-Length: {TWO}"), 413),
    "2 MB that are asked for": (
        request("POST", TURNS, JSON, f"Content-Length: {TWO}", "Expect: 100-continue"),
        413,
    ),
    "one chunk of 100 MB": (ENDLESS, 413),
    "2 MB in chunks of 16 bytes": (
        request(
            "POST",
            TURNS,
            JSON,
            "Transfer-Encoding: chunked",
            body=b"10\r\n%b\r\n" % (b" " * 16) * (TWO // 16),
        ),
        413,
    ),
    "deflate": (_post(BOMB, "Content-Encoding: deflate"), 413),
    "raw deflate": (_post(_deflated(*INPUT, bits=-15), "Content-Encoding: deflate"), 400),
    "gzip": (_post(gzip.compress(b" " * HUGE, 1), "Content-Encoding: gzip"), 413),
    "twice": (_post(zlib.compress(BOMB), "Content-Encoding: deflate, deflate"), 415),
    "as a transfer coding": (
        request("POST", TURNS, JSON, "Transfer-Encoding: deflate, chunked", body=b"0\r\n\r\n"),
        400,
    ),
    "without saying so": (_post(BOMB), 400),
}
FRAMES = {
    "a compressed message": ([frame(0x1, RAW_BOMB, bits=0x40)], 4400),
    "a header of 1 GB": ([frame(0x1, b"", size=2**30)], 4413),
    "a header of 1 GB and some of it": ([frame(0x1, b" " * 4 * MEGABYTE, size=2**30)], 4413),
    "fragments without end": (
        [frame(0x1, b" ", fin=False), *[frame(0, b" " * 4_096, fin=False)] * 512],
        4413,
    ),
    "a ping of 1 GB": ([frame(0x9, b"", size=2**30)], 4400),
    "bad UTF-8": ([frame(0x1, b'{"type":"\xff\xfe"}')], 4400),
    "2 MB of bad UTF-8": ([frame(0x1, b"\xff" * TWO)], 4413),
    "UTF-8 of half a surrogate": ([frame(0x1, b'{"type":"\xed\xa0\x80"}')], 4400),
}


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The port and the process id of a server that does nothing else."""
    home: Path = tmp_path_factory.mktemp("bombs")
    (home / "app.py").write_text("async def echo(text):\n    return text\n")
    with command("serve", "app:echo", "--port", "0", "--store", "memory", directory=home) as served:
        port = int(served.wait_for(r"at http://127\.0\.0\.1:(\d+) ")[1])
        yield port, served.process.pid


def most_bytes(pid: int) -> int:
    """The most memory that a process ever had, where the system tells; else what it has now."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1_024
    return int(psutil.Process(pid).memory_info().rss)


async def test_a_body_that_is_too_much_is_refused_within_bounds(process):
    """All at once: each is refused before it is taken in, or opened further than a body may be, and
    the memory stays as it was.
    """
    port, pid = process
    assert (await said(port, request("GET", "/health", "Connection: close"))).status == 200
    before = most_bytes(pid)
    tries = [(name, data) for name, (data, _) in BODIES.items() for _ in range(AT_ONCE)]
    every = await asyncio.gather(*(said(port, data) for _, data in tries))
    for (name, _), found in zip(tries, every, strict=True):
        assert found.status == BODIES[name][1], (name, found)
    assert most_bytes(pid) - before < MOST_MORE


async def test_a_frame_that_is_too_much_ends_the_connection(process):
    """All at once: the close code says why, and the memory stays as it was."""
    port, pid = process

    async def closed(frames):
        async with wired(port, Sec_WebSocket_Extensions="permessage-deflate") as wire:
            with suppress(ConnectionError):
                # it may be closed while this is on its way
                await wire.send(HELLO, *frames)
            return await wire.close_code()

    before = most_bytes(pid)
    tries = [(name, frames) for name, (frames, _) in FRAMES.items() for _ in range(AT_ONCE)]
    codes = await asyncio.gather(*(closed(frames) for _, frames in tries))
    for (name, _), code in zip(tries, codes, strict=True):
        assert code == FRAMES[name][1], name
    assert most_bytes(pid) - before < MOST_MORE


async def test_no_compression_is_agreed_on(process):
    """Whatever a client offers: without per-message deflate there is nothing to blow up."""
    port, _ = process
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate"
    async with connected(port) as (reader, writer):
        writer.write(request("GET", "/v1/ws", "Connection: Upgrade", *HANDSHAKE, offer))
        head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head
    assert b"extensions" not in head.lower()
