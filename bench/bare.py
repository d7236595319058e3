"""The bare limit: aiohttp, uvloop and msgspec saying the same with no pool behind it.

`python -m bench.bare PORT`. No sessions, no store, no queue, no limits: what any server that
answers this protocol with these libraries must spend. `MODEL_URL` names the model that is relayed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

import msgspec
import uvloop
from aiohttp import ClientSession, TCPConnector, WSMsgType, web
from msgspec import Struct, field

from bench import agents

# how long a delta may wait for those behind it: what DESIGN asks of the pool
TICK_S: Final = 0.005
PORT_BACKLOG: Final = 4096

encode: Final = msgspec.json.Encoder().encode
MODEL: Final = web.AppKey("model", ClientSession)


class Asked(Struct):
    """The part of a turn request that is read."""

    input: str


class Usage(Struct):
    """A turn's usage."""

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    tool_calls: int = 0
    cost_usd: float | None = None
    models: tuple[str, ...] = ()


class Turn(Struct):
    """A turn, with every field that a turn of the protocol has."""

    id: str
    session_id: str
    input: str
    output: str
    created_at: datetime
    finished_at: datetime
    agent: str = "default"
    state: str = "completed"
    usage: Usage = field(default_factory=Usage)
    pending: list[Any] = []
    attempt: int = 1
    queued_s: float = 0.0
    run_s: float = 0.0
    metadata: dict[str, Any] = {}


class Delta(Struct, tag="text.delta", tag_field="type"):
    """A piece of the answer."""

    id: str
    turn_id: str
    session_id: str
    text: str


class Completed(Struct, tag="turn.completed", tag_field="type"):
    """The end of a turn."""

    id: str
    turn_id: str
    session_id: str
    at: datetime
    turn: Turn


class Frame(Struct, tag="event", tag_field="type"):
    """An event on a WebSocket."""

    event: Delta | Completed


class Command(Struct):
    """What a client of the WebSocket says; only what a turn needs is read."""

    type: str
    session_id: str = ""
    input: str = ""


class _ModelDelta(Struct):
    content: str | None = None


class _ModelChoice(Struct):
    delta: _ModelDelta


class _ModelChunk(Struct):
    choices: list[_ModelChoice] = []


decode_asked: Final = msgspec.json.Decoder(Asked).decode
decode_command: Final = msgspec.json.Decoder(Command).decode
decode_chunk: Final = msgspec.json.Decoder(_ModelChunk).decode


_ids = count(1)


def next_id() -> str:
    """An id for a turn; no cheaper one is to be had."""
    return f"t{next(_ids)}"


def finished(turn_id: str, session_id: str, asked: str, output: str) -> Turn:
    """A turn that was answered."""
    now = datetime.now(UTC)
    return Turn(turn_id, session_id, asked, output, now, now)


async def plain(request: web.Request) -> web.Response:
    """Answer a turn in one piece."""
    asked = decode_asked(await request.read())
    output = await agents.echo(asked.input)
    turn = finished(next_id(), request.match_info["session"], asked.input, output)
    return web.Response(body=encode(turn), content_type="application/json")


async def deltas(request: web.Request, asked: str) -> AsyncIterator[list[str]]:
    """Pieces of the answer, as they come: the model's if there is one, else the agent's."""
    if MODEL in request.app:
        async for texts in relayed(request.app[MODEL], asked):
            yield texts
    else:
        async for text in agents.stream(asked):
            yield [text]


async def relayed(client: ClientSession, asked: str) -> AsyncIterator[list[str]]:
    """The pieces that a model streams, those of one read together."""
    body = {"model": "bench", "messages": [{"role": "user", "content": asked}], "stream": True}
    rest = b""
    async with client.post("chat/completions", data=encode(body)) as response:
        async for data in response.content.iter_any():
            *lines, rest = (rest + data).split(b"\n\n")
            chunks = [decode_chunk(line[6:]) for line in lines if line[6:7] == b"{"]
            texts = [choice.delta.content for chunk in chunks for choice in chunk.choices]
            if said := [text for text in texts if text]:
                yield said


async def events(
    request: web.Request, session_id: str, asked: str
) -> AsyncIterator[Delta | Completed]:
    """A turn as events: the first delta at once, then those of a tick joined."""
    clock = asyncio.get_running_loop().time
    turn_id, seq, written = next_id(), 0, 0.0
    said: list[str] = []
    waiting: list[str] = []
    async for texts in deltas(request, asked):
        waiting += texts
        seq += len(texts)
        if (now := clock()) - written >= TICK_S:
            yield Delta(f"1-{seq}", turn_id, session_id, "".join(waiting))
            said += waiting
            waiting.clear()
            written = now
    if waiting:
        yield Delta(f"1-{seq}", turn_id, session_id, "".join(waiting))
    turn = finished(turn_id, session_id, asked, "".join(said + waiting))
    yield Completed(f"1-{seq + 1}", turn_id, session_id, turn.finished_at, turn)


async def sse(request: web.Request) -> web.StreamResponse:
    """Answer a turn as a stream of events."""
    asked = decode_asked(await request.read())
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for event in events(request, request.match_info["session"], asked.input):
        kind = "turn.completed" if isinstance(event, Completed) else "text.delta"
        await response.write(
            f"id: {event.id}\nevent: {kind}\ndata: ".encode() + encode(event) + b"\n\n"
        )
    await response.write_eof()
    return response


async def turn(request: web.Request) -> web.StreamResponse:
    """Answer a turn the way that is asked for."""
    streamed = request.headers.get("Accept") == "text/event-stream"
    return await (sse(request) if streamed else plain(request))


async def websocket(request: web.Request) -> web.WebSocketResponse:
    """Answer turns, one after the other, on a WebSocket."""
    socket = web.WebSocketResponse(protocols=["actorpool.v1"], compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            break
        command = decode_command(message.data)
        if command.type == "hello":
            await socket.send_str('{"type":"welcome"}')
        elif command.type == "turn":
            await socket.send_str('{"type":"accepted"}')
            async for event in events(request, command.session_id, command.input):
                await socket.send_str(encode(Frame(event)).decode())
    return socket


async def model(app: web.Application) -> AsyncIterator[None]:
    """A client of the model, while the server runs."""
    async with ClientSession(os.environ["MODEL_URL"], connector=TCPConnector(limit=0)) as client:
        app[MODEL] = client
        yield


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    app = web.Application()
    app.router.add_post("/v1/sessions/{session}/turns", turn)
    app.router.add_get("/v1/ws", websocket)
    if "MODEL_URL" in os.environ:
        app.cleanup_ctx.append(model)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=PORT_BACKLOG).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
