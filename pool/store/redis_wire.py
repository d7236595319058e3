"""One connection to a Redis server, from its first byte to its loss.

What is sent within one tick of the loop goes out in one write. Replies are told to whoever waits,
in order; one that nobody waits for any more (its caller was cancelled) is passed over.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

from hiredis import ProtocolError, Reader, ReplyError, pack_command

from pool.errors import StoreUnavailable

# Why a connection ended, in words for callers.
_ENDED: Final = "Redis closed the connection"
_SILENT: Final = "Redis did not answer in time; it hangs, or is overloaded"
_GARBLED: Final = "what came is not Redis's protocol; check host and port of store.url"
_CROWDED: Final = "too many calls wait for Redis"
_IN_SCRIPT: Final = re.compile(r": -([A-Z]+) ")
_MORE: Final = object()
# how words of so many bytes begin
_SIZES: Final = tuple(b"$%d" % size for size in range(1024))
# The loop itself may have stood still: after the first look at a silent server there is a second,
# so much of the timeout later, before which all that has arrived is read.
_GRACE: Final = 0.1


class Wire(asyncio.Protocol):
    """A connection. `pushed` gets messages of channels, if it is subscribed to any.

    `timeout_s`: a server that owes a reply and says nothing for so long has hung: the connection is
    closed, and all who wait get `StoreUnavailable`. So does who would be one more than
    `waiting_max` that wait.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        waiting_max: int,
        pushed: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._timeout_s = timeout_s
        self._waiting_max = waiting_max
        self._pushed = pushed
        self._transport: asyncio.Transport | None = None
        self._reader = Reader(notEnoughData=_MORE)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        # when the server owed nothing, or said something, last
        self._heard_at = 0.0
        self._suspected = False
        self._reason = _ENDED

    @property
    def up(self) -> bool:
        """Whether it can still be used."""
        return self._transport is not None

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a packed command; what it answers. An error reply is an answer (`ReplyError`)."""
        if self._transport is None:
            raise unavailable(self._reason)
        if len(self._waiting) >= self._waiting_max:
            raise unavailable(_CROWDED)
        if not self._waiting:
            self._heard_at = self._loop.time()
            if self._timer is None:
                self._arm(self._timeout_s * (1 - _GRACE))
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(future)
        self._unsent.append(packed)
        if len(self._unsent) == 1:
            self._loop.call_soon(self._flush)
        return future

    def close(self) -> None:
        """Close the connection; whoever waits gets `StoreUnavailable`."""
        self._lose(_ENDED)

    def _flush(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    # --- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Some replies, or parts of them."""
        self._heard_at = self._loop.time()
        self._suspected = False
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _MORE:
                self._take(reply)
        except ProtocolError:
            self._lose(_GARBLED)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._lose(self._reason)
        if not self.closed.done():
            self.closed.set_result(None)

    # --- steps

    def _take(self, reply: Any) -> None:
        if self._pushed is not None and type(reply) is list and reply[0] == b"message":
            self._pushed(reply[1], reply[2])
            return
        if not self._waiting:
            raise ProtocolError("a reply to nothing")
        future = self._waiting.popleft()
        if not future.done():
            future.set_result(reply)

    def _lose(self, reason: str) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            self._reason = reason
            # no goodbye: a server that hangs would not take it
            transport.abort()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._unsent.clear()
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(unavailable(reason))

    def _arm(self, delay_s: float) -> None:
        self._timer = self._loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._waiting:
            self._suspected = False
            return
        silent_s = self._loop.time() - self._heard_at
        first_s = self._timeout_s * (1 - _GRACE)
        if self._suspected:
            self._lose(_SILENT)
        elif silent_s < first_s:
            self._arm(first_s - silent_s)
        else:
            self._suspected = True
            self._arm(self._timeout_s * _GRACE)


def pack(words: Sequence[str | bytes | int]) -> bytes:
    """A command as it goes over the wire."""
    packed: bytes = pack_command(tuple(words))  # type: ignore[arg-type]
    return packed


def bulk(words: Iterable[bytes]) -> bytes:
    """Some words of a command as they go over the wire. `pack` takes three times as long."""
    parts = []
    for word in words:
        size = len(word)
        parts.append(_SIZES[size] if size < len(_SIZES) else b"$%d" % size)
        parts.append(word)
    parts.append(b"")
    return b"\r\n".join(parts)


def code_of(reply: ReplyError) -> str:
    """The word that says what kind of error it is."""
    text = str(reply)
    code = text.partition(" ")[0]
    # Redis 6.2 tells what a script ran into within a text of its own
    inner = _IN_SCRIPT.search(text) if code == "ERR" else None
    return code if inner is None else inner[1]


def unavailable(reason: str, retry_after_s: float = 1.0) -> StoreUnavailable:
    """The error that callers get."""
    return StoreUnavailable(f"the store does not answer: {reason}", retry_after_s=retry_after_s)
