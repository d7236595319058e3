"""Clients of the storm: each has a session, asks one turn after another, and keeps what it saw.

They lose their connections at random, and go on at any replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final, Literal

import aiohttp
import msgspec

from protocol.client.sse import SseParser
from tests.fault.clients import ENDED, Caller
from tests.fault.seen import Seen

Kind = Literal["http", "sse", "ws"]
KINDS: Final[Sequence[Kind]] = ("http", "sse", "ws")
# How long one turn may take, whatever is killed meanwhile.
TURN_S: Final = 30.0
_SILENCE_S: Final = 3.0
# How often a reader leaves of its own accord, an event.
_LEAVES: Final = 0.05
_BROKEN: Final = (aiohttp.ClientError, TimeoutError, ConnectionError, msgspec.DecodeError)


class StormClient:
    """Asks the turns of one session. `heard`: for each turn its id, input, and the answer."""

    def __init__(
        self,
        caller: Caller,
        session: str,
        texts: Sequence[str],
        *,
        random: Random,
        think_s: float,
    ) -> None:
        self.session = session
        self.heard: list[tuple[str, str, str]] = []
        self.seen = Seen()
        self.reconnects = 0
        self._caller = caller
        self._texts = texts
        self._random = random
        self._think_s = think_s

    async def run(self) -> None:
        """Ask everything."""
        for number, text in enumerate(self._texts):
            key = f"{self.session}-{number}"
            await asyncio.sleep(self._random.uniform(0, self._think_s))
            try:
                async with asyncio.timeout(TURN_S):
                    turn_id, answer = await self.ask(text, key)
            except TimeoutError:
                raise AssertionError(f"{key}: {text!r} has no answer after {TURN_S:g} s") from None
            self.heard.append((turn_id, text, answer))

    async def ask(self, text: str, key: str) -> tuple[str, str]:
        """One turn: its id and the answer."""
        while True:
            with suppress(*_BROKEN):
                answer = await self.attempt(text, key)
                if answer is not None:
                    return answer
            self.reconnects += 1
            await asyncio.sleep(self._random.uniform(0.02, 0.1))

    async def attempt(self, text: str, key: str) -> tuple[str, str] | None:
        """One connection: the turn's id and the answer, if it came."""
        raise NotImplementedError

    @property
    def _url(self) -> str:
        return f"{self._caller.somewhere()}/v1/sessions/{self.session}/turns"

    def _leaves(self) -> bool:
        return self._random.random() < _LEAVES


class HttpClient(StormClient):
    """Waits for the answer, and asks again with the same key if none comes."""

    async def attempt(self, text: str, key: str) -> tuple[str, str] | None:
        """One request, that may wait as long as the server is there."""
        reply = await self._caller.call(
            "POST", self._url, {"input": text}, timeout_s=_SILENCE_S, Idempotency_Key=key
        )
        if reply.status in (429, 503):
            return None
        assert reply.status == 200 and reply.body["state"] in ENDED, reply
        return reply.body["id"], reply.body["output"]


class SseClient(StormClient):
    """Streams the answer, and goes on behind the last event that it had."""

    async def attempt(self, text: str, key: str) -> tuple[str, str] | None:
        """A stream of the turn from its submit, or from where the last one broke off."""
        turn_id = self._turn_of(key)
        if turn_id is not None:
            url = f"{self._caller.somewhere()}/v1/turns/{turn_id}/events"
            await self._caller.read_once(url, self.seen, self._leaves)
        else:
            await self._submit(text, key)
            turn_id = self._turn_of(key)
        if turn_id is None or self.seen.ending(turn_id) is None:
            return None
        return turn_id, self.seen.said(turn_id)

    def _turn_of(self, key: str) -> str | None:
        """The turn that a key stands for, once an event of it has come."""
        known = {turn_id for turn_id, _, _ in self.heard}
        fresh = (e["turn_id"] for e in reversed(self.seen.events) if e["turn_id"] not in known)
        return next(fresh, None)

    async def _submit(self, text: str, key: str) -> None:
        headers = {"Accept": "text/event-stream", "Idempotency-Key": key}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
        http, parser = self._caller.http, SseParser()
        async with http.post(
            self._url, json={"input": text}, headers=headers, timeout=timeout
        ) as response:
            if response.status in (429, 503):
                return
            assert response.status == 200, (response.status, await response.text())
            async for chunk in response.content.iter_any():
                for data in parser.feed(chunk):
                    event = msgspec.json.decode(data)
                    self.seen.take(event)
                    if "turn" in event or self._leaves():
                        return


class WsClient(StormClient):
    """Talks over a WebSocket, which it keeps over several turns if it can."""

    _socket: aiohttp.ClientWebSocketResponse | None = None

    async def run(self) -> None:
        """Ask everything, and leave."""
        try:
            await super().run()
        finally:
            await self._leave()

    async def attempt(self, text: str, key: str) -> tuple[str, str] | None:
        """What one connection gives of the turn."""
        try:
            return await self._talk(text, key)
        except BaseException:
            await self._leave()
            raise

    async def _talk(self, text: str, key: str) -> tuple[str, str] | None:
        socket = await self._connected()
        command = {"type": "turn", "session_id": self.session, "input": text, "ref": key}
        await socket.send_json({**command, "idempotency_key": key})
        turn_id: str | None = None
        while True:
            frame = await self._hear(socket)
            if frame["type"] == "accepted" and frame.get("ref") == key:
                turn_id = frame["turn"]["id"]
            elif frame["type"] == "event":
                self.seen.take(frame["event"])
                await self._acknowledge(socket)
            elif frame["type"] in ("error", "goodbye"):
                assert frame["type"] == "goodbye" or frame["error"]["status"] in (429, 503), frame
                await self._leave()
                return None
            if turn_id is not None and self.seen.ending(turn_id) is not None:
                return turn_id, self.seen.said(turn_id)
            if self._leaves():
                await self._leave()
                return None

    async def _connected(self) -> aiohttp.ClientWebSocketResponse:
        if self._socket is not None and not self._socket.closed:
            return self._socket
        url = f"{self._caller.somewhere()}/v1/ws"
        async with asyncio.timeout(_SILENCE_S):
            self._socket = await self._caller.http.ws_connect(
                url, protocols=("actorpool.v1",), timeout=aiohttp.ClientWSTimeout(ws_close=0.5)
            )
        sessions = {} if self.seen.cursor is None else {self.session: self.seen.cursor}
        await self._socket.send_json({"type": "hello", "sessions": sessions})
        welcome = await self._hear(self._socket)
        if welcome["type"] != "welcome":
            raise ConnectionError(f"not welcome: {welcome}")
        return self._socket

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
        message = await socket.receive(timeout=_SILENCE_S)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError(f"closed with {socket.close_code}")
        frame: dict[str, Any] = msgspec.json.decode(message.data)
        return frame

    async def _acknowledge(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        if len(self.seen.events) % 20 == 0:
            ack = {"type": "ack", "session_id": self.session, "cursor": self.seen.cursor}
            await socket.send_json(ack)

    async def _leave(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            with suppress(*_BROKEN):
                await socket.close()


CLIENTS: Final[dict[Kind, type[StormClient]]] = {
    "http": HttpClient,
    "sse": SseClient,
    "ws": WsClient,
}
