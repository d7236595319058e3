"""Requests that are meant to hurt: refused with a 4xx, within limits, and never reflected."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from io import BytesIO

import pytest

from protocol.config import ServerConfig
from tests.support.serving import Peer, serving

pytestmark = pytest.mark.real_time

TURNS = "/v1/sessions/s1/turns"
JSON = {"Content-Type": "application/json"}


def post(body: bytes, *headers: str, path: str = TURNS) -> bytes:
    """A POST as bytes that asks for the end of the connection."""
    head = "".join(f"{header}\r\n" for header in headers)
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\n{head}\r\n"
    ).encode() + body


def get(*headers: str, path: str = "/health", host: str = "Host: localhost\r\n") -> bytes:
    """A GET as bytes that asks for the end of the connection."""
    head = "".join(f"{header}\r\n" for header in headers)
    return f"GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{head}\r\n".encode()


def refused(answer: bytes, status: int = 400, code: str = "invalid_request") -> None:
    """Check that bytes are a problem with this status, and tell nothing of the inside."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    assert b"\r\nX-Request-ID: " in head
    assert f'"code":"{code}"'.encode() in body
    assert b"Traceback" not in body
    assert b".py" not in body


async def alive(peer: Peer) -> None:
    """Check that the server still answers, and that nothing was kept."""
    assert (await peer.get("/health")).status == 200
    assert (await (await peer.get("/v1/sessions")).json())["sessions"] == []


# --- slow


async def test_a_slow_head_is_closed_at_its_deadline() -> None:
    """A header that never ends does not hold a connection."""
    async with serving(config=ServerConfig(header_timeout_s=0.05)) as peer:
        began = asyncio.get_running_loop().time()
        assert await peer.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") == b""
        assert asyncio.get_running_loop().time() - began < 5


async def test_a_head_in_time_in_pieces_is_answered() -> None:
    """The deadline is for the whole head, and over when it is there."""
    async with serving(config=ServerConfig(header_timeout_s=5)) as peer:
        answer = await peer.raw(
            b"GET /health HT", b"TP/1.1\r\nHost: localhost\r\n", b"Connection: close\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_the_deadline_of_a_head_ends_with_it() -> None:
    """A turn that takes longer than a head may is not cut off."""

    async def slow(text: str) -> str:
        await asyncio.sleep(0.2)
        return text

    async with serving(slow, config=ServerConfig(header_timeout_s=0.05)) as peer:
        request = post(b'{"input":"x"}', "Content-Length: 13")
        answer = await peer.raw(request[:20], request[20:])
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", b'{"input":'], ids=["none", "some"])
async def test_a_stalled_body_is_408_at_its_deadline(sent: bytes) -> None:
    """And the connection ends."""
    async with serving(config=ServerConfig(body_timeout_s=0.05)) as peer:
        answer = await peer.raw(post(sent, "Content-Length: 100"))
        refused(answer, 408)
        assert b"Connection: close" in answer
        await alive(peer)


async def test_an_idle_connection_is_closed() -> None:
    """After `keepalive_s`, whether it has asked for something or not."""
    async with serving(config=ServerConfig(keepalive_s=0.05)) as peer:
        assert await peer.raw() == b""
        answer = await peer.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


# --- malformed


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("X-Big: " + "x" * 10_000),
        get(path="/" + "x" * 10_000),
        get(*(f"X-{number}: x" for number in range(200))),
        get(host="Host: localhost\r\nHost: 127.0.0.1\r\n"),
        get(host="Host: localhost\r\nHost: localhost\r\n"),
        get(host=""),
        get(path="http://evil.example/health"),
        get(path="http://localhost:81/health"),
        get(path="http://localhost@evil.example/health"),
        get(path="ftp://localhost/health"),
        b"GET http://localhost/health HTTP/1.0\r\n\r\n",
        post(b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
        post(b"0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5"),
        post(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked"),
        post(b"0\r\n\r\n", "Transfer-Encoding: identity, chunked"),
        post(b"0\r\n\r\n", "Transfer-Encoding: chunked, identity"),
        post(b"{}", "Content-Length: 2", "Content-Length: 3"),
        post(b"{}", "Content-Length: -2"),
        post(b"{}", "Content-Length: +2"),
        post(b"{}", "Content-Length: 2, 2"),
        post(b"{}", "Content-Length: 99999999999999999999999"),
        post(b"zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        post(b"5\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        get("X-Bad : x"),
        get("X-Bad: a\x00b"),
        get("X-Bad: a\rb"),
        get(" folded"),
        get("no colon"),
        b"GET /health HTTP/1.1\nHost: localhost\n\n\x00\x01",
        b"GET /he alth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"G@T /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"POST /v1/sessions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=range(34),
)
async def test_what_is_no_clean_http_is_400(request_bytes: bytes) -> None:
    """One answer, then the end: two servers in a row cannot read it differently."""
    async with serving() as peer:
        answer = await peer.raw(request_bytes)
        refused(answer)
        assert answer.count(b"HTTP/1.1 4") == 1
        await alive(peer)


@pytest.mark.parametrize("target", ["http://localhost", "http://LOCALHOST:80", "https://localhost"])
async def test_a_target_may_name_the_host_that_is_called(target: str) -> None:
    """As a proxy is asked, which may pass it on as it is (RFC 9112, 3.2.2)."""
    async with serving() as peer:
        answer = await peer.raw(get(path=f"{target}/health"))
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_what_was_sent_is_not_reflected() -> None:
    """Neither line ends nor markup of a request come back in an answer."""
    async with serving() as peer:
        for request, status, code in (
            (get("X-Request-ID: a\tb<script>", path="/<script>"), 404, "not_found"),
            (get("X-Request-ID: " + "x" * 129, path="/v1/turns/%0d%0aSet-Cookie:%20a=b"), 400, ""),
            (get("X-Request-ID: \u00e9", path="/health?<script>=1"), 400, ""),
            (get(path="/v1/turns/<script>"), 400, ""),
            (b"GET /health HTTP/1.1\r\n<script>\r\n\r\n", 400, ""),
        ):
            answer = await peer.raw(request)
            refused(answer, status, code or "invalid_request")
            for piece in (b"<script>", b"Set-Cookie", b"\xc3\xa9"):
                assert piece not in answer


@pytest.mark.parametrize(
    "part", ["..%2f", "%2e%2e", "{}", ":", "*", "%00", "a%0ab", "a%0d", "a" * 8_000, "a.b", "%"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/sessions/{}"),
        ("DELETE", "/v1/sessions/{}"),
        ("GET", "/v1/sessions/{}/messages"),
        ("GET", "/v1/sessions/{}/events"),
        ("POST", "/v1/sessions/{}/turns"),
        ("POST", "/v1/sessions/{}/fork"),
        ("GET", "/v1/turns/{}"),
        ("GET", "/v1/turns/{}/events"),
        ("POST", "/v1/turns/{}/cancel"),
        ("PATCH", "/v1/pool/{}"),
        ("GET", "/agent/status/{}"),
    ],
)
async def test_a_hostile_id_is_400(method: str, path: str, part: str) -> None:
    """On every route, before anything is looked up or kept."""
    async with serving() as peer:
        target = path.replace("{}", part)
        request = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        refused(await peer.raw(request.encode()))
        await alive(peer)


@pytest.mark.parametrize(
    ("part", "status"),
    [
        *((part, 400) for part in ("%00", "a%0ab", "a%0d", "%7f", "%20", "%c3%a9", "%ff", "..")),
        *((part, 400) for part in ("", "%2e%2e", "a" * 257, "a" * 8_000)),
        # ids of calls, that nothing waits for
        *((part, 404) for part in ("..%2f", "{}", ":", "*", "a.b", "%", "%25", "'\"<script>")),
    ],
)
async def test_a_hostile_id_of_a_call_is_refused(part: str, status: int) -> None:
    """What is no visible ASCII is 400, and comes back in no answer."""
    path = f"/v1/turns/t/approvals/{part}"
    body = b'{"decision":"deny"}'
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    async with serving() as peer:
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        answer = await peer.raw(request)
        refused(answer, status, "invalid_request" if status == 400 else "not_found")
        _, _, said = answer.partition(b"\r\n\r\n")
        assert not {0x00, 0x0A, 0x0D} & set(said)
        await alive(peer)


@pytest.mark.parametrize("name", ["../", "{}", ":", "*", "a\n", "a\r\n", "\x00", "x" * 10_000, ""])
async def test_a_hostile_id_in_a_body_is_refused(name: str) -> None:
    """The same for ids that are no part of the path; at the latest, nothing has this name."""
    async with serving() as peer:
        for path, body in (
            ("/v1/sessions", {"session_id": name}),
            ("/v1/sessions", {"agent": name}),
            (TURNS, {"input": "x", "agent": name}),
            ("/agent/invoke", {"message": "x", "thread_id": name}),
            ("/agent/run", {"message": "x", "session_id": name}),
        ):
            assert (await peer.post(path, body)).status in (400, 404)
        await alive(peer)


# --- bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"input":"x"} {"input":"y"}',
        b'{"input":"x","x":1}',
        b'{"input":1}',
        b'{"input":"x","metadata":{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
        b'{"input":"x","metadata":' + b'{"a":' * 100 + b"1" + b"}" * 101,
        b'{"input":"x","metadata":{"a":' + b"9" * 100_000 + b"}}",
        b'{"input":"x","deadline_s":' + b"9" * 100_000 + b"}",
        b'{"input":"x","deadline_s":NaN}',
        b'{"input":"x","deadline_s":-Infinity}',
        b'{"input":"x","deadline_s":86401}',
        b'{"input":"\\ud800"}',
        b'{"input":"\xff\xfe"}',
        b'\xff\xfe{\x00"\x00',
    ],
    ids=range(17),
)
async def test_a_hostile_body_is_400(body: bytes) -> None:
    """Never a 500, whatever JSON can be bent into."""
    async with serving() as peer:
        response = await peer.request("POST", TURNS, data=BytesIO(body), headers=JSON)
        assert (response.status, response.content_type) == (400, "application/problem+json")
        problem = await response.json(content_type=None)
        assert problem["code"] == "invalid_request"
        await alive(peer)


async def test_wrong_fields_are_named() -> None:
    """Which, and why, in the words of the protocol."""
    async with serving() as peer:
        response = await peer.post(TURNS, {"input": "x", "webhook": {"url": 1}})
        problem = await response.json(content_type=None)
        assert problem["errors"] == [
            {"field": "webhook.url", "message": "Expected `str`, got `int`"}
        ]


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/xml", "json", "+json"]
)
async def test_another_media_type_is_415(kind: str) -> None:
    """Only JSON is read."""
    async with serving() as peer:
        headers = {"Content-Type": kind}
        response = await peer.request("POST", TURNS, data=b'{"input":"x"}', headers=headers)
        assert response.status == 415
        problem = await response.json(content_type=None)
        assert problem["code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
)
async def test_every_json_is_read(kind: str) -> None:
    """With parameters, in capitals, with a suffix."""
    async with serving() as peer:
        headers = {"Content-Type": kind}
        response = await peer.request("POST", TURNS, data=b'{"input":"x"}', headers=headers)
        assert response.status == 200


async def test_a_body_without_a_type_counts_as_json() -> None:
    """A client that says nothing is not refused for it."""
    async with serving() as peer:
        request = post(b'{"input":"x"}', "Content-Length: 13")
        request = request.replace(b"Content-Type: application/json\r\n", b"")
        assert (await peer.raw(request)).startswith(b"HTTP/1.1 200 ")


async def test_a_body_over_the_limit_is_413() -> None:
    """Announced or in chunks, at the byte."""
    config = ServerConfig(max_body_bytes=1_000)
    async with serving(config=config) as peer:
        exact = b'{"input":"' + b"x" * 988 + b'"}'
        for body, status in ((exact, 200), (exact + b" ", 413)):
            response = await peer.request("POST", TURNS, data=body, headers=JSON)
            assert response.status == status
            chunked = await peer.request("POST", TURNS, data=_pieces(body), headers=JSON)
            assert chunked.status == status
        problem = await response.json(content_type=None)
        assert problem["code"] == "too_large"


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


async def test_two_megabytes_are_413_by_default() -> None:
    """While they are still on their way, and however they come."""
    async with serving() as peer:
        body = b'{"input":"' + b"x" * 2 * 2**20 + b'"}'
        response = await peer.request("POST", TURNS, data=BytesIO(body), headers=JSON)
        assert response.status == 413
        refused(await peer.raw(post(b"", "Content-Length: 9999999999")), 413, "too_large")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        endless = post(chunk * 40, "Transfer-Encoding: chunked")
        refused(await peer.raw(endless), 413, "too_large")


async def test_a_large_body_is_asked_for() -> None:
    """`Expect: 100-continue` is answered, or refused before the body is sent."""
    async with serving() as peer:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.server.port)
        writer.write(post(b"", "Content-Length: 13", "Expect: 100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'{"input":"x"}')
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        huge = await peer.raw(post(b"", "Content-Length: 9999999", "Expect: 100-continue"))
        refused(huge, 413, "too_large")


async def test_an_unknown_query_parameter_is_400() -> None:
    """On routes with parameters and without."""
    async with serving() as peer:
        for place in (
            "/health?x=1",
            "/v1/sessions?x=1",
            "/v1/turns/t?wait_s=1&x=1",
            "/v1/agents?x",
        ):
            response = await peer.get(place)
            assert response.status == 400
        twice = await peer.get("/v1/sessions?limit=1&limit=2")
        assert twice.status == 400


@pytest.mark.parametrize("method", ["PUT", "TRACE", "OPTIONS", "HEAD", "PURGE"])
async def test_another_method_is_405_with_those_allowed(method: str) -> None:
    """A problem, with `Allow`; to HEAD without its body."""
    async with serving() as peer:
        response = await peer.request(method, "/v1/sessions")
        assert (response.status, response.headers["Allow"]) == (405, "GET, POST")
        if method == "HEAD":
            assert await response.text() == ""
        else:
            assert (await response.json(content_type=None))["code"] == "invalid_request"


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Each once, by their own ids."""
    async with serving() as peer:
        several = b"".join(
            f"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: r{n}\r\n\r\n".encode()
            for n in range(50)
        )
        answer = await peer.raw(several, get("X-Request-ID: last"))
        found = re.findall(rb"X-Request-ID: (\w+)", answer)
        assert found == [f"r{n}".encode() for n in range(50)] + [b"last"]
