from __future__ import annotations

import asyncio
import zlib

import pytest
from structlog.testing import capture_logs

from protocol.ws.config import WsConfig
from tests.support.serving import serving
from tests.support.sockets import connected, frame, talking, wired

pytestmark = pytest.mark.real_time(10)

HELLO = frame(0x1, b'{"type":"hello"}')


def text(payload):
    """A text frame."""
    return frame(0x1, payload)


BOMB = zlib.compress(b"a" * 10_000_000)[2:]

BAD = {
    "not JSON": [text(b"hello")],
    "not an object": [text(b"[]")],
    "no type": [text(b"{}")],
    "type is no string": [text(b'{"type": 7}')],
    "not UTF-8": [text(b'{"type": "\xff\xfe"}')],
    "not UTF-8, split between frames": [
        frame(0x1, b'{"type": "\xc3', fin=False),
        frame(0x0, b'("}'),
    ],
    "deep JSON": [text(b'{"type": "turn", "metadata": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")],
    "NaN": [text(b'{"type": "turn", "deadline_s": NaN}')],
    "binary": [frame(0x2, b'{"type": "ping"}')],
    "compressed": [frame(0x1, BOMB, bits=0x40)],
    "reserved bits": [frame(0x1, b"{}", bits=0x20)],
    "unknown opcode": [frame(0x3, b"{}")],
    "continuation of nothing": [frame(0x0, b"{}")],
    "fragmented ping": [frame(0x9, b"", fin=False)],
    "large ping": [frame(0x9, b"x" * 126)],
    "bad close code": [frame(0x8, (1005).to_bytes(2, "big"))],
    "close code cut short": [frame(0x8, b"\x03")],
    "two hellos": [HELLO],
}

TOO_LARGE = {
    "a header of 1 GB": [frame(0x1, b"", size=2**30)],
    "a header of 2^63": [frame(0x1, b"", size=2**63 - 1)],
    "a header of 2^64": [frame(0x1, b"", size=2**64 - 1)],
    "one byte too many": [frame(0x1, b" " * 1_001)],
    "fragments": [frame(0x1, b" " * 600, fin=False), frame(0x0, b" " * 600)],
    "endless fragments": [frame(0x1, b" ", fin=False), *[frame(0x0, b" " * 100, fin=False)] * 20],
}


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD.keys())
async def test_what_is_no_command_is_closed_with_4400(frames):
    """A frame that breaks the rules ends the connection with 4400; no defect is logged."""
    with capture_logs() as logs:
        async with serving() as peer, wired(peer.server.port) as wire:
            await wire.send(HELLO, *frames)
            assert await wire.close_code() == 4400
            await peer.get("/health")
    assert [log for log in logs if log["log_level"] in ("error", "critical")] == []


@pytest.mark.parametrize("frames", TOO_LARGE.values(), ids=TOO_LARGE.keys())
async def test_what_is_too_large_is_closed_with_4413(frames):
    """A frame, or a message in fragments, over the limit ends the connection with 4413."""
    config = WsConfig(max_frame_bytes=1_000)
    async with serving(ws=config) as peer, wired(peer.server.port) as wire:
        await wire.send(HELLO, *frames)
        assert await wire.close_code() == 4413


@pytest.mark.parametrize("ref", [b'"r1"', b'"\\ud800"', b"[1]"])
async def test_half_an_emoji_costs_the_command_and_not_the_connection(ref):
    """A lone surrogate is JSON, but no text: the command is refused and the socket stays open."""
    async with serving() as peer, wired(peer.server.port) as wire:
        await wire.send(HELLO, text(b'{"type": "turn", "input": "\\ud83d", "ref": ' + ref + b"}"))
        await wire.until(b"invalid_request")
        await wire.send(text(b'{"type": "ping"}'))
        await wire.until(b'"pong"')


async def test_a_sender_in_full_flow_still_learns_why():
    """The close frame reaches a client that goes on sending a frame of 1 GB."""
    async with serving() as peer, wired(peer.server.port) as wire:
        await wire.send(HELLO, frame(0x1, b"", size=2**30))

        async def flood():
            while not wire.writer.is_closing():
                wire.writer.write(b" " * 65_536)
                await wire.writer.drain()

        flooding = asyncio.create_task(flood())
        assert await wire.close_code() == 4413
        flooding.cancel()
        await asyncio.wait([flooding])
        if not flooding.cancelled():
            assert isinstance(flooding.exception(), ConnectionError)


async def test_a_frame_of_the_largest_size_is_taken():
    """Exactly `max_frame_bytes` is not too large."""
    config = WsConfig(max_frame_bytes=1_000)
    async with serving(ws=config) as peer, wired(peer.server.port) as wire:
        await wire.send(HELLO, frame(0x1, b'{"type":"ping"}'.ljust(1_000)))
        await wire.hear()
        assert await wire.hear() == (0x1, b'{"type":"pong"}')


async def test_frames_that_come_faster_than_they_are_dealt_with_are_all_answered():
    """What comes is read only so far ahead, and read on when that is done."""
    async with serving() as peer, wired(peer.server.port, read_bytes=2**20) as wire:
        pings = [text(b'{"type":"ping","ref":%d}' % number) for number in range(20_000)]
        sending = asyncio.create_task(wire.send(HELLO, b"".join(pings)))
        assert b'"welcome"' in (await wire.hear())[1]
        for number in range(len(pings)):
            assert await wire.hear() == (0x1, b'{"type":"pong","ref":%d}' % number)
        await sending


@pytest.mark.parametrize(
    "first",
    [
        '{"type":"ping"}',
        '{"type":"turn","session_id":"s","input":"x"}',
        '{"type":"nonsense"}',
        '{"type":"ping","unknown":1}',
    ],
)
async def test_anything_before_hello_is_closed_with_4400(first):
    """The first frame is hello, or the last."""
    async with serving() as peer, connected(peer) as talk:
        await talk.socket.send_str(first)
        assert (await talk.closed()).code == 4400


async def test_a_hello_with_a_mistake_may_be_said_again():
    """A mistake in hello is an error like any other; a good one is welcome after it."""
    async with serving() as peer, connected(peer) as talk:
        answer = await talk.ask("hello", ref="a", unknown=1)
        assert answer["type"] == "error"
        assert answer["ref"] == "a"
        assert (await talk.ask("hello"))["type"] == "welcome"


@pytest.mark.parametrize(
    "command",
    [
        {"type": "nonsense"},
        {"type": "turn", "session_id": "s"},
        {"type": "turn", "session_id": "a/b", "input": "x"},
        {"type": "turn", "session_id": "s\n", "input": "x"},
        {"type": "turn", "session_id": "s", "input": "x", "surprise": 1},
        {"type": "turn", "session_id": "s", "input": "x", "deadline_s": -1},
        {"type": "turn", "session_id": "s", "input": "x", "idempotency_key": "k" * 129},
        {"type": "subscribe", "session_id": "s", "after": "yesterday"},
        {"type": "ack", "session_id": "s", "cursor": "1"},
        {"type": "approve", "turn_id": "t", "call_id": "c", "decision": "perhaps"},
        {"type": "ping", "surprise": 1},
    ],
)
async def test_a_mistake_in_a_command_is_an_error_and_the_socket_stays_open(command):
    """Wrong, missing and unknown fields are answered with the ref, as invalid requests."""
    async with serving() as peer, talking(peer) as talk:
        answer = await talk.ask(ref="r1", kind=command["type"], **_rest(command))
        assert answer["type"] == "error"
        assert answer["ref"] == "r1"
        assert answer["error"]["code"] == "invalid_request"
        assert (await talk.ask("ping"))["type"] == "pong"


def _rest(command):
    return {name: value for name, value in command.items() if name != "type"}


async def test_a_clients_ping_is_answered_with_its_payload():
    """The control frame ping gets a pong of the same bytes, even before hello."""
    async with serving() as peer, wired(peer.server.port) as wire:
        await wire.send(frame(0x9, b"abc"))
        assert await wire.hear() == (0xA, b"abc")


async def test_a_clients_close_is_answered_with_its_code():
    """The closing handshake is completed with what the client said."""
    async with serving() as peer, wired(peer.server.port) as wire:
        await wire.send(frame(0x8, (4000).to_bytes(2, "big") + b"bye"))
        assert await wire.close_code() == 4000
        assert await wire.reader.read() == b""


async def test_a_client_that_does_not_answer_a_close_is_cut_off():
    """After the grace the server ends the connection by itself."""
    async with serving(ws=WsConfig(close_grace_s=0.05)) as peer:
        async with wired(peer.server.port) as wire:
            await wire.send(text(b"nonsense"))
            assert await wire.close_code() == 4400
            assert await _rest_of(wire) == b""
        assert len(peer.server.connections) == 0


async def _rest_of(wire):
    try:
        return await wire.reader.read()
    except ConnectionResetError:
        return b""
