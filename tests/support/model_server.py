"""A look-alike of an OpenAI-compatible model server, which does what the test tells it.

    async with ModelServer([Reply(text="hello")]) as server:
        chat("openai:test", base_url=server.url)

Replies are given in order, or by a function of the request. Without either, the last user text says
what happens: `call NAME {json} && NAME {json}` asks for tools, `loop NAME {json}` does so again and
again, `status 429` refuses; anything else is repeated.

As a process, for load: `python -m tests.support.model_server PORT --chunks 200`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec
import uvloop
from aiohttp import web
from msgspec import Struct

Request = dict[str, Any]


class Reply(Struct, frozen=True, kw_only=True):
    """One answer, as the server streams it.

    `text`, in `pieces` if given; `reasoning` before it; `calls` as (name, arguments), the arguments
    JSON text or to be made it; `finish` as is fit unless given; `usage` as (input, output).

    `status` other than 200 refuses, with `body` and `headers`. `raw` is sent instead of a stream of
    chunks. `hold` is awaited after the first piece. `breaks` cuts the connection before the end.
    """

    text: str = ""
    pieces: Sequence[str] = ()
    reasoning: str = ""
    calls: Sequence[tuple[str, Any]] = ()
    call_ids: Sequence[str] | None = None
    finish: str | None = None
    usage: tuple[int, int] | None = (100, 20)
    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    raw: Sequence[bytes] | None = None
    hold: Any = None
    breaks: bool = False
    done: bool = True


Script = Iterable[Reply] | Callable[[Request], Reply]


class ModelServer:
    """Serves `POST {url}/chat/completions` on a free port of 127.0.0.1.

    Counts: `requests` and `headers` as they came, `open` streams, those `cancelled` by their
    client, and `connections` made.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.requests: list[Request] = []
        self.headers: list[Mapping[str, str]] = []
        self.open = 0
        self.cancelled = 0
        self.connections: set[tuple[str, int]] = set()
        self.url = ""
        self._script = script if callable(script) or script is None else iter(script)
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int) -> None:
        """Listen; on a free port if `port` is 0."""
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._answer)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, backlog=1024).start()
        host, bound = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{bound}/v1"

    async def stop(self) -> None:
        """Close the port and what is still open."""
        await self._runner.cleanup()

    async def until(self, seen: Callable[[ModelServer], bool]) -> None:
        """Wait until the server has seen something: `server.until(lambda s: s.cancelled == 1)`."""
        while not seen(self):
            self._changed.clear()
            await self._changed.wait()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked: Request = msgspec.json.decode(await request.read())
        self.requests.append(asked)
        self.headers.append(request.headers)
        if request.transport is not None:
            self.connections.add(request.transport.get_extra_info("peername"))
        reply = self._reply(asked)
        if reply.status != 200:
            return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
        self._count(opened=1)
        try:
            return await self._stream(request, reply, chunks_of(reply, asked))
        except (asyncio.CancelledError, ConnectionError):
            self._count(cancelled=1)
            raise
        finally:
            self._count(opened=-1)

    async def _stream(
        self, request: web.Request, reply: Reply, chunks: Sequence[bytes]
    ) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream", **reply.headers}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for place, chunk in enumerate(chunks):
            await response.write(chunk)
            if place == 0 and reply.hold is not None:
                await reply.hold.wait()
        if reply.breaks and request.transport is not None:
            request.transport.abort()
        else:
            await response.write_eof()
        return response

    def _reply(self, asked: Request) -> Reply:
        if self._script is None:
            return told(asked)
        if callable(self._script):
            return self._script(asked)
        reply = next(self._script, None)
        if reply is None:
            raise AssertionError(f"request {len(self.requests)} came, but no reply is left for it")
        return reply

    def _count(self, *, opened: int = 0, cancelled: int = 0) -> None:
        self.open += opened
        self.cancelled += cancelled
        self._changed.set()


def told(asked: Request) -> Reply:
    """What the last user text says should happen."""
    said = [each["content"] for each in asked["messages"] if each["role"] == "user"][-1]
    results = [each["content"] for each in asked["messages"] if each["role"] == "tool"]
    answered = asked["messages"][-1]["role"] == "tool"
    order = re.match(r"(call|loop) (.+)", said, re.DOTALL)
    if order and (order[1] == "loop" or not answered):
        calls = [each.split(" ", 1) for each in order[2].split(" && ")]
        return Reply(calls=[(name, arguments) for name, arguments in calls])
    if refused := re.match(r"status (\d{3})", said):
        return Reply(status=int(refused[1]))
    return Reply(text=f"done: {results[-1]}" if answered else f"You said: {said}")


def chunk(delta: Mapping[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
    """One event of a stream; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000}
    body = {**head, "model": "test-1", "choices": choices, **more}
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def chunks_of(reply: Reply, asked: Request) -> Sequence[bytes]:
    """The events of a reply's stream."""
    if reply.raw is not None:
        return reply.raw
    chunks = [chunk({"role": "assistant", "content": ""})]
    if reply.reasoning:
        chunks.append(chunk({"reasoning_content": reply.reasoning}))
    chunks += [chunk({"content": piece}) for piece in reply.pieces or _cut(reply.text)]
    for place, (name, arguments) in enumerate(reply.calls):
        call_id = _call_id(reply, len(asked["messages"]), place)
        chunks += _call_chunks(place, call_id, name, arguments)
    if reply.breaks:
        return chunks
    chunks.append(chunk({}, reply.finish or ("tool_calls" if reply.calls else "stop")))
    if reply.usage is not None and asked.get("stream_options", {}).get("include_usage"):
        used = {"prompt_tokens": reply.usage[0], "completion_tokens": reply.usage[1]}
        chunks.append(chunk(None, usage=used))
    if reply.done:
        chunks.append(b"data: [DONE]\n\n")
    return chunks


def _call_id(reply: Reply, length: int, place: int) -> str:
    return f"call_{length}_{place}" if reply.call_ids is None else reply.call_ids[place]


def _call_chunks(place: int, call_id: str, name: str, arguments: Any) -> list[bytes]:
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    begun = {"index": place, "id": call_id, "function": {"name": name, "arguments": ""}}
    grown = [{"index": place, "function": {"arguments": piece}} for piece in _cut(text)]
    return [chunk({"tool_calls": [each]}) for each in (begun, *grown)]


def _cut(text: str, size: int = 8) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


class LoadServer(ModelServer):
    """The same answer of `count` chunks for every request.

    They are written `per_write` at a time, `interval_s` apart.
    """

    def __init__(self, count: int, *, per_write: int = 4, interval_s: float = 0) -> None:
        super().__init__(lambda asked: Reply())
        texts = [chunk({"content": f"tok{place} "}) for place in range(count - 2)]
        chunks = [chunk({"role": "assistant", "content": ""}), *texts, chunk({}, "stop")]
        used = chunk(None, usage={"prompt_tokens": 5, "completion_tokens": count})
        self._writes = [
            b"".join(chunks[start : start + per_write]) for start in range(0, count, per_write)
        ]
        self._writes.append(used + b"data: [DONE]\n\n")
        self._interval_s = interval_s

    async def _stream(
        self, request: web.Request, reply: Reply, chunks: Sequence[bytes]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for each in self._writes:
            await response.write(each)
            if self._interval_s:
                await asyncio.sleep(self._interval_s)
        await response.write_eof()
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        # Nothing of the requests is kept: there will be very many.
        await request.read()
        return await self._stream(request, Reply(), ())


async def _serve(port: int, server: ModelServer) -> None:
    await server.start(port)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await server.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="A model server that answers any request at once.")
    parser.add_argument("port", type=int)
    parser.add_argument("--chunks", type=int, default=200, help="chunks of an answer, at least 2")
    parser.add_argument("--per-write", type=int, default=4, help="chunks in one write")
    parser.add_argument("--interval-s", type=float, default=0.0, help="seconds between two writes")
    given = parser.parse_args(arguments)
    server = LoadServer(given.chunks, per_write=given.per_write, interval_s=given.interval_s)
    uvloop.run(_serve(given.port, server))


if __name__ == "__main__":
    main()
