"""Packed bodies: unpacked within their bounds, refused where they are not what they say."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from protocol.config import ServerConfig
from tests.support.serving import Peer, serving

pytestmark = pytest.mark.real_time

TURNS = "/v1/sessions/s1/turns"
BODY = b'{"input":"x"}'
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}


def raw_deflate(data: bytes) -> bytes:
    """What some take for `deflate`: the stream without its wrapping."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


async def answer_to(peer: Peer, coding: str, data: object) -> tuple[int, str]:
    """The status of the answer to a packed body, and its problem's code or the turn's output."""
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    # as if the client had done it: aiohttp's would pack it once more
    response = await peer.request("POST", TURNS, data=data, headers=headers, compress=False)
    said = await response.json(content_type=None)
    return response.status, said.get("code") or said["output"]


async def alive(peer: Peer) -> None:
    """Check that the server still answers, and that nothing was kept."""
    assert (await peer.get("/health")).status == 200
    assert (await (await peer.get("/v1/sessions")).json())["sessions"] == []


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    """The bytes one by one."""
    for byte in data:
        yield bytes([byte])


@pytest.mark.parametrize("coding", PACKERS)
async def test_a_packed_body_is_unpacked(coding: str) -> None:
    """Whichever case its coding is written in, and however it comes."""
    packed = PACKERS[coding](BODY)
    async with serving() as peer:
        assert await answer_to(peer, coding, packed) == (200, "echo: x")
        assert await answer_to(peer, coding.upper(), packed) == (200, "echo: x")
        assert await answer_to(peer, coding, pieces(packed)) == (200, "echo: x")
        assert await answer_to(peer, "identity", BODY) == (200, "echo: x")


@pytest.mark.parametrize("coding", PACKERS)
async def test_a_packed_body_has_the_bounds_of_every_body(coding: str) -> None:
    """To the byte, and unpacked: what it takes on the way does not count."""
    exact = b'{"input":"' + b"x" * 988 + b'"}'
    pack = PACKERS[coding]
    async with serving(config=ServerConfig(max_body_bytes=1_000)) as peer:
        status, _ = await answer_to(peer, coding, pack(exact))
        assert status == 200
        assert await answer_to(peer, coding, pack(exact + b" ")) == (413, "too_large")


@pytest.mark.parametrize("coding", PACKERS)
async def test_a_bomb_is_413(coding: str) -> None:
    """It is opened no further than a body may be (its memory: tests/security/test_bombs.py)."""
    bomb = PACKERS[coding](b" " * 100_000_000)
    async with serving() as peer:
        assert await answer_to(peer, coding, bomb) == (413, "too_large")
        await alive(peer)


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: packed[:-1],
        lambda packed: packed[:3],
        lambda packed: packed + b"x",
        lambda packed: packed + packed,
        lambda packed: packed[:-5] + bytes(byte ^ 1 for byte in packed[-5:]),
        lambda _: BODY,
        lambda _: raw_deflate(BODY),
    ],
    ids=["cut", "begun", "more", "twice", "wrong sum", "plain", "unwrapped"],
)
async def test_a_body_that_is_not_packed_as_it_says_is_400(
    coding: str, spoil: Callable[[bytes], bytes]
) -> None:
    """Broken off, damaged, with something behind it, or another thing."""
    async with serving() as peer:
        found = await answer_to(peer, coding, spoil(PACKERS[coding](BODY)))
        assert found == (400, "invalid_request")
        await alive(peer)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate, gzip", "identity, gzip"])
async def test_another_coding_is_415(coding: str) -> None:
    """So is one upon another."""
    async with serving() as peer:
        found = await answer_to(peer, coding, gzip.compress(BODY))
        assert found == (415, "unsupported_media_type")
        await alive(peer)
