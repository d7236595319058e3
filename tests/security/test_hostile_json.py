"""JSON that is made to break its readers, wherever JSON is read. FAULTS row 23."""

from __future__ import annotations

from io import BytesIO
from typing import get_args
from urllib.parse import quote

import msgspec
import pytest
from structlog.testing import capture_logs

from tests.security.surfaces import bodies, commands, queries, wrapped, written
from tests.support.serving import serving
from tests.support.sockets import frame, wired

pytestmark = pytest.mark.real_time(20)

HOSTILE = {
    "200,000 lists": b"[" * 200_000 + b"]" * 200_000,
    "150,000 objects": b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
    "lists without end": b"[" * 200_000,
    "65 lists": b"[" * 65 + b"]" * 65,
    "100,000 digits": b"9" * 100_000,
    "100,000 digits below zero": b"-" + b"9" * 100_000,
    "100,000 decimals": b"0." + b"9" * 100_000 + b"e999999999",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "too large a float": b"1e400",
    "a lone surrogate": b'"\\ud800"',
    "surrogates the wrong way round": b'"\\udc00\\ud800"',
    "a lone surrogate as a name": b'{"\\ud800":1}',
    "no UTF-8": b'"\xff\xfe"',
    "a NUL in UTF-16": '"x"'.encode("utf-16"),
    "a raw NUL": b'"a\0b"',
    "a comment": b"/**/1",
    "half a string": b'"x',
    "an escape that is none": b'"\\x41"',
}
JSON = {"Content-Type": "application/json"}
HELLO = frame(0x1, b'{"type":"hello"}')


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_json_is_400_in_every_body(value):
    """In every field of every body, in one that nobody knows, and as the whole of it."""
    with capture_logs() as logs:
        async with serving() as peer:
            for place in bodies():
                fields = {**place.surface.fields, "no_such_field": int}
                tries = {
                    name: written(place.surface.good, name, wrapped(hint, value))
                    for name, hint in fields.items()
                }
                for name, body in {**tries, "the whole": value}.items():
                    response = await peer.request(
                        place.method, place.path, data=BytesIO(body), headers=JSON
                    )
                    problem = await response.json(content_type=None)
                    where = (place.surface.name, name, problem)
                    assert (response.status, problem["code"]) == (400, "invalid_request"), where
            assert (await peer.pool.sessions(None, 10)).items == []
    assert [line for line in logs if line["log_level"] == "error"] == []


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_json_is_refused_in_every_command(value):
    """In every field of every command: an error and the connection goes on, or 4400; no defect."""
    with capture_logs() as logs:
        async with serving() as peer:
            for command in commands():
                for name, hint in {**command.fields, "no_such_field": int, "type": str}.items():
                    good = {"type": command.name, **command.good}
                    sent = frame(0x1, written(good, name, wrapped(hint, value)))
                    await _refused(peer, command.name, name, sent)
            assert (await peer.pool.sessions(None, 10)).items == []
    assert [line for line in logs if line["log_level"] == "error"] == []


async def _refused(peer, command, field, sent):
    first = () if command == "hello" else (HELLO,)
    async with wired(peer.server.port) as wire:
        await wire.send(*first, sent)
        for _ in first:
            await wire.hear()
        opcode, payload = await wire.hear()
        where = (command, field, payload[:300])
        if opcode == 0x8:
            assert int.from_bytes(payload[:2], "big") == 4400, where
            return
        assert msgspec.json.decode(payload)["error"]["code"] == "invalid_request", where
        await wire.send(frame(0x1, b'{"type":"ping"}') if first else HELLO)
        assert b'"pong"' in (await wire.hear())[1] if first else True


NUMBERS = ("NaN", "-Infinity", "1e400", "9" * 5_000, "-1", "0x1", "\u0661", "1_0", "", " 1", "[1]")


@pytest.mark.parametrize("value", NUMBERS, ids=range(len(NUMBERS)))
async def test_hostile_numbers_are_400_in_every_query(value):
    """The same for what comes as text, where a number, a day, a word or a cursor is asked for."""
    async with serving() as peer:
        await peer.post("/v1/sessions", {"session_id": "s"})
        for place in queries():
            for name, hint in place.surface.fields.items():
                path = f"{place.path}?{name}={quote(value)}"
                response = await peer.request(place.method, path)
                answer = (response.status, await code_of(response))
                # of an id or a name any text may be one
                if name in ("cursor", "after") or str not in (hint, *get_args(hint)):
                    assert answer == (400, "invalid_request"), path
                else:
                    assert response.status in (200, 400, 404), path


async def code_of(response):
    """The code of a problem; of anything else None."""
    return (await response.json(content_type=None)).get("code")


@pytest.mark.parametrize("value", ["NaN", "-1", "1e400", "9" * 5_000, "\u00b2"])
async def test_hostile_numbers_in_headers_are_passed_over_or_400(value):
    """A preference that is not understood is none (RFC 7240); a cursor has to be one."""
    async with serving() as peer:
        turn = await peer.turn_id("s", "k", "x")
        headers = {"Prefer": f"wait={value}"}
        response = await peer.post("/v1/sessions/s/turns", {"input": "x"}, headers=headers)
        assert response.status in (200, 202)
        assert "Preference-Applied" not in response.headers
        path = f"/v1/turns/{turn}/events"
        assert (await peer.get(path, headers={"Last-Event-ID": value})).status == 400
