"""A receiver of webhooks: a real HTTP server on a free port of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from standardwebhooks import Webhook

# An answer: its status, or how to give one.
Answer = int | web.Response


class Received(NamedTuple):
    """A request as it came."""

    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> Any:
        """The JSON of the body; an error unless it was signed with the secret."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """Notes what comes, and answers as its script says; when that is through with 204."""

    def __init__(self, script: Iterable[Answer]) -> None:
        self.got: list[Received] = []
        self.url = ""
        self._script = iter(script)
        self._news = asyncio.Event()

    async def take(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.got.append(Received(dict(request.headers), await request.read()))
        self._news.set()
        answer = next(self._script, 204)
        return web.Response(status=answer) if isinstance(answer, int) else answer

    async def received(self, count: int) -> None:
        """Return once so many requests have come."""
        while len(self.got) < count:
            self._news.clear()
            await self._news.wait()


@asynccontextmanager
async def receiving(*script: Answer) -> AsyncIterator[Receiver]:
    """A receiver, until the block is left."""
    receiver = Receiver(script)
    runner = web.ServerRunner(web.Server(receiver.take, access_log=None), shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{site.port}/hook"
        yield receiver
    finally:
        await runner.cleanup()
