"""Heads that two servers in a row could read differently, or that are too much. FAULTS row 21."""

from __future__ import annotations

import pytest

from protocol.config import ServerConfig
from tests.security.raw import HANDSHAKE, JSON, request, said
from tests.support.serving import serving

pytestmark = pytest.mark.real_time(10)

BODY = b'{"session_id":"smuggled"}'
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
AS_CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
# What must never be taken for a request of its own.
SECOND = request("POST", "/v1/sessions", JSON, LENGTH, body=BODY)

HEADS = {
    "an oversized header": (["X-Big: " + "x" * 10_000], BODY),
    "an oversized name": (["X" * 10_000 + ": x"], BODY),
    "200 headers": ([f"X-{number}: x" for number in range(200)], BODY),
    "200 headers of one name": (["X: x"] * 200, BODY),
    "TE and CL": ([CHUNKED, LENGTH], AS_CHUNKS),
    "CL and TE": ([LENGTH, CHUNKED], AS_CHUNKS),
    "TE that ends before CL does": ([f"Content-Length: {5 + len(SECOND)}", CHUNKED], b"0\r\n\r\n"),
    "two CL": ([LENGTH, "Content-Length: 2"], BODY),
    "the same CL twice": ([LENGTH, LENGTH], BODY),
    "a list of CL": ([f"{LENGTH}, {len(BODY)}"], BODY),
    "two TE": ([CHUNKED, CHUNKED], AS_CHUNKS),
    "TE with a tab": (["Transfer-Encoding:\tchunked", LENGTH], AS_CHUNKS),
    "TE before a space": (["Transfer-Encoding : chunked"], AS_CHUNKS),
    "TE that is no coding": (["Transfer-Encoding: xchunked"], AS_CHUNKS),
    "a coding before chunked": (["Transfer-Encoding: gzip, chunked"], AS_CHUNKS),
    "no coding before chunked": (["Transfer-Encoding: identity, chunked"], AS_CHUNKS),
    "TE on a line of its own": (["X: y", " Transfer-Encoding: chunked"], AS_CHUNKS),
    "a name with an underscore and TE": ([CHUNKED, "Transfer_Encoding: x", LENGTH], AS_CHUNKS),
    "duplicate Host": (["Host: localhost"], BODY),
    "another Host": (["Host: evil.example"], BODY),
    "a bare CR": ([b"X: a\rb"], BODY),
    "a bare LF": ([b"X: a\nHost: evil.example"], BODY),
    "a NUL": ([b"X: a\0b"], BODY),
}
ROUTES = {
    "with a body": ("POST", "/v1/sessions", ()),
    "without a body": ("GET", "/health", ()),
    "a handshake": ("GET", "/v1/ws", HANDSHAKE),
    "nothing": ("GET", "/no/such/path", ()),
}


@pytest.mark.parametrize(("method", "path", "more"), ROUTES.values(), ids=ROUTES)
@pytest.mark.parametrize(("headers", "body"), HEADS.values(), ids=HEADS)
async def test_an_ambiguous_head_is_400_and_the_end(headers, body, method, path, more):
    """On every kind of route one answer, and nothing behind it is read as a second request."""
    length = (
        [] if any("ength" in str(line) or "ncoding" in str(line) for line in headers) else [LENGTH]
    )
    data = request(method, path, JSON, *more, *length, *headers, body=body)
    async with serving() as peer:
        found = await said(peer.server.port, data + SECOND)
        assert (found.status, found.answers) == (400, 1), found
        assert b"\r\nConnection: close" in found.head
        assert (await peer.pool.sessions(None, 10)).items == []


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.9"])
async def test_other_versions_smuggle_nothing(version):
    """A version that knows no chunks, or that nobody knows, is not read as if it were 1.1."""
    data = request("POST", "/v1/sessions", JSON, CHUNKED, body=AS_CHUNKS)
    async with serving() as peer:
        found = await said(peer.server.port, data.replace(b"HTTP/1.1", version) + SECOND)
        assert (found.status, found.answers) == (400, 1)
        assert (await peer.pool.sessions(None, 10)).items == []


async def test_what_is_within_the_limits_is_answered():
    """The same heads, a little smaller: the limits are where the configuration says."""
    config = ServerConfig(max_header_bytes=1_000, max_headers=20)
    async with serving(config=config) as peer:
        for header, status in (("X: " + "x" * 900, 200), ("X: " + "x" * 1_100, 400)):
            data = request("GET", "/health", "Connection: close", header)
            assert (await said(peer.server.port, data)).status == status
        for count, status in ((17, 200), (30, 400)):
            many = [f"X-{number}: x" for number in range(count)]
            data = request("GET", "/health", "Connection: close", *many)
            assert (await said(peer.server.port, data)).status == status
