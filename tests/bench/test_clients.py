"""The raw clients take answers apart wherever the network has cut them."""

from __future__ import annotations

import pytest

from bench.http import Answer
from bench.websocket import Socket, frame

PLAIN = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello"
EMPTY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\n\n0\r\n0\r\n\r\n"
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("data", [PLAIN, EMPTY, CHUNKED])
def test_answer_is_whole_with_its_last_byte(data: bytes) -> None:
    """Cut anywhere, an answer is whole when its last byte is there and not before."""
    for cut in range(1, len(data)):
        answer = Answer()

        assert not answer.feed(data[:cut])
        assert answer.feed(data[cut:])


def test_answer_knows_its_status() -> None:
    """Only 200 is what was asked for."""
    good, bad = Answer(), Answer()
    good.feed(PLAIN)
    bad.feed(EMPTY)

    assert (good.ok, good.body, bad.ok, bad.body) == (True, b"hello", False, b"")


async def test_socket_takes_frames_of_every_length() -> None:
    """Texts of each of the three encodings of length arrive, wherever the bytes are cut."""
    texts = [b"a", b"b" * 200, b"c" * 70_000]
    heads = [b"\x81\x01", b"\x81\x7e" + (200).to_bytes(2), b"\x81\x7f" + (70_000).to_bytes(8)]
    data = UPGRADE + b"".join(head + text for head, text in zip(heads, texts, strict=True))
    for cut in (1, len(UPGRADE) - 1, len(UPGRADE), len(UPGRADE) + 1, len(UPGRADE) + 5, 300, 40_000):
        taken: list[bytes] = []
        socket = Socket(taken.append)

        socket.data_received(data[:cut])
        socket.data_received(data[cut:])

        assert taken == texts
        socket.close()


async def test_socket_says_why_it_was_closed() -> None:
    """A close frame ends the connection with the server's code."""
    socket = Socket(lambda text: None)

    socket.data_received(UPGRADE + b"\x88\x06" + (4008).to_bytes(2) + b"slow")

    with pytest.raises(ConnectionError, match="4008"):
        await socket.lost


def test_client_frames_are_masked() -> None:
    """A client's frame has its mask bit set, whatever its length."""
    assert frame(b"hi") == b"\x81\x82\0\0\0\0hi"
    assert frame(b"x" * 126)[:4] == b"\x81\xfe\x00\x7e"
