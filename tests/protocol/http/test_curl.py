"""curl, as a client that knows nothing of us: waits, streams, resumes."""

from __future__ import annotations

import asyncio
import shutil

import msgspec
import pytest

from tests.support.serving import events, serving, types
from tests.support.serving_agents import Stepped

CURL = shutil.which("curl")

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.skipif(CURL is None, reason="curl is not installed"),
]

POST = ("-H", "Content-Type: application/json", "-d")


async def curl(*arguments: str) -> str:
    """What curl prints; it fails on a 4xx, a 5xx or a broken stream."""
    process = await _start(*arguments)
    out, _ = await process.communicate()
    assert process.returncode == 0, arguments
    return out.decode()


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        CURL or "curl", "-sSN", "--fail-with-body", *arguments, stdout=asyncio.subprocess.PIPE
    )


async def test_curl_waits_for_an_answer() -> None:
    """One POST, one JSON object."""
    async with serving() as peer:
        out = await curl(f"{peer.server.url}/v1/sessions/s1/turns", *POST, '{"input":"hi"}')
        assert msgspec.json.decode(out)["output"] == "echo: hi"


async def test_curl_sends_a_large_body() -> None:
    """It waits for `100 Continue` before it sends one."""
    async with serving() as peer:
        body = msgspec.json.encode({"input": "x" * 1_000_000}).decode()
        process = await asyncio.create_subprocess_exec(
            CURL or "curl",
            "-sS",
            f"{peer.server.url}/v1/sessions/s1/turns",
            *POST,
            "@-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(body.encode())
        assert len(msgspec.json.decode(out)["output"]) == 1_000_006


async def test_curl_streams_and_resumes_where_it_was_cut_off() -> None:
    """What it read before and after the cut is the whole, without gap or repetition."""
    agent = Stepped()
    async with serving(agent) as peer:
        url = f"{peer.server.url}/v1/sessions/s1/turns"
        stream = ("-H", "Accept: text/event-stream")
        first = await _start(url, *stream, *POST, '{"input":"one two three"}')
        assert first.stdout is not None
        agent.step()
        read = ""
        while '"one"' not in read or not read.endswith("\n\n"):
            read += (await first.stdout.read(4096)).decode()
        first.kill()
        await first.wait()
        seen = events(read)
        agent.step(2)
        rest = await curl(
            f"{peer.server.url}/v1/turns/{seen[0]['turn_id']}/events",
            "-H",
            f"Last-Event-ID: {seen[-1]['id']}",
        )
        whole = seen + events(rest)
        assert types(whole)[-1] == "turn.completed"
        said = "".join(event["text"] for event in whole if event["type"] == "text.delta")
        assert said == whole[-1]["turn"]["output"] == "onetwothree"
        over = await curl(
            "-w", "%{http_code}", "-H", f"Last-Event-ID: {whole[-1]['id']}",
            f"{peer.server.url}/v1/turns/{seen[0]['turn_id']}/events",
        )  # fmt: skip
        assert over == "204"
