"""Loads a server with turns on WebSockets, one session a connection.

`python -m bench.websocket_load stream PORT CONNECTIONS WARM_UP_S SECONDS`: turn after turn.
`python -m bench.websocket_load idle PORT CONNECTIONS`: a turn each, then silence till stdin ends.
Prints a `Load` as JSON, for `idle` as soon as all is silent.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any, Final

import msgspec
import uvloop
from msgspec import Struct

from bench.websocket import Socket

# so many at once knock on the door
OPENING: Final = 50
# the server may have this many events unacknowledged at least
ACK_EVERY: Final = 32
# an answer that takes longer never comes
LAST_ANSWER_S: Final = 20.0
CURSOR: Final = re.compile(rb'"id":"(\d+-\d+)"')
INPUT: Final = "What is the weather in Paris today?"


class Load(Struct, frozen=True):
    """What a load measured. `all_turns` counts the warm-up too."""

    turns: int
    seconds: float
    all_turns: int
    sample: str

    @property
    def per_second(self) -> float:
        """Turns answered in a second."""
        return self.turns / self.seconds


class Chat:
    """One session on one connection: asks, reads to the end, acknowledges, asks again."""

    def __init__(self, number: int) -> None:
        self.session = f"w{number}"
        self.socket = Socket(self._text)
        self.turns = 0
        self.sample = b""
        # no further turn is asked; `finished` when the last is answered
        self.stopped = False
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unacknowledged = 0

    def hello(self) -> None:
        """The first frame."""
        self.socket.send(b'{"type":"hello"}')

    def ask(self) -> None:
        """Ask one turn."""
        ask = {"type": "turn", "session_id": self.session, "input": INPUT}
        self.socket.send(msgspec.json.encode(ask))

    def _text(self, payload: bytes) -> None:
        if payload.startswith(b'{"type":"event"'):
            self._event(payload)
        elif payload.startswith(b'{"type":"error"') or b'"error"' in payload[:200]:
            self._fail(payload)

    def _event(self, payload: bytes) -> None:
        self._unacknowledged += 1
        ended = b'"turn.completed"' in payload
        if ended or self._unacknowledged >= ACK_EVERY:
            self._acknowledge(payload)
        if ended:
            self.turns += 1
            self.sample = payload
            if not self.stopped:
                self.ask()
            elif not self.finished.done():
                self.finished.set_result(None)

    def _acknowledge(self, payload: bytes) -> None:
        cursor = CURSOR.search(payload)
        if cursor is None:
            self._fail(payload)
            return
        self._unacknowledged = 0
        ack = b'{"type":"ack","session_id":"%b","cursor":"%b"}'
        self.socket.send(ack % (self.session.encode(), cursor[1]))

    def _fail(self, payload: bytes) -> None:
        if not self.socket.lost.done():
            self.socket.lost.set_exception(ConnectionError(f"not answered: {payload[:500]!r}"))
        self.socket.close()


async def connect(port: int, connections: int) -> list[Chat]:
    """Open the connections, a few at a time."""
    chats = [Chat(number) for number in range(connections)]
    for at in range(0, connections, OPENING):
        some = chats[at : at + OPENING]
        for chat in some:
            await chat.socket.dial(port)
        await asyncio.gather(*(chat.socket.upgraded for chat in some))
        for chat in some:
            chat.hello()
    return chats


async def unless_lost(chats: list[Chat], what: asyncio.Future[Any]) -> None:
    """Wait for `what`; raise if a connection is lost before."""
    await asyncio.wait([what, *(chat.socket.lost for chat in chats)], return_when="FIRST_COMPLETED")
    for future in (what, *(chat.socket.lost for chat in chats)):
        if future.done():
            await future


async def finished(chats: list[Chat]) -> None:
    """Wait until each has its last answer."""
    last = asyncio.gather(*(chat.finished for chat in chats))
    await unless_lost(chats, asyncio.ensure_future(asyncio.wait_for(last, LAST_ANSWER_S)))


async def stream(port: int, connections: int, warm_up_s: float, seconds: float) -> Load:
    """Keep every connection asking: `warm_up_s` that do not count, then `seconds` that do."""
    chats = await connect(port, connections)
    for chat in chats:
        chat.ask()
    await unless_lost(chats, asyncio.ensure_future(asyncio.sleep(warm_up_s)))
    before, start = sum(chat.turns for chat in chats), time.perf_counter()
    await unless_lost(chats, asyncio.ensure_future(asyncio.sleep(seconds)))
    turns, taken = sum(chat.turns for chat in chats) - before, time.perf_counter() - start
    for chat in chats:
        chat.stopped = True
    await finished(chats)
    return done(chats, turns, taken)


async def idle(port: int, connections: int) -> Load:
    """One turn on every connection, a few at a time."""
    chats = await connect(port, connections)
    start = time.perf_counter()
    for at in range(0, connections, OPENING):
        some = chats[at : at + OPENING]
        for chat in some:
            chat.stopped = True
            chat.ask()
        await finished(some)
    return done(chats, connections, time.perf_counter() - start)


def done(chats: list[Chat], turns: int, seconds: float) -> Load:
    """The figures of a load."""
    all_turns = sum(chat.turns for chat in chats)
    return Load(turns, seconds, all_turns, chats[0].sample.decode())


async def main(mode: str, *arguments: str) -> None:
    """Run a load and print its figures."""
    port, connections, *times = arguments
    if mode == "stream":
        warm_up_s, seconds = map(float, times)
        load = await stream(int(port), int(connections), warm_up_s, seconds)
    else:
        load = await idle(int(port), int(connections))
    sys.stdout.buffer.write(msgspec.json.encode(load) + b"\n")
    sys.stdout.flush()
    if mode == "idle":
        # the connections stay open until the runner has looked at the server's memory
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
