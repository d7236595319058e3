"""The way to one Redis server: connected when first needed, and again after it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from ssl import SSLError
from typing import Any, Final

from hiredis import ReplyError

from pool.backoff import Backoff
from pool.store.redis_url import Address, Login
from pool.store.redis_wire import Wire, pack, unavailable

# How many calls may wait for replies of one server.
WAITING_MAX: Final = 20_000
_ASKING: Final = pack(("ASKING",))
_TIME: Final = pack(("TIME",))


class RedisLink:
    """Sends commands to one server. Lost connections are made anew with the next command, the next
    try after a failed one a little later each time.

    Every command fails with `StoreUnavailable` when the server is not there, or owes a reply for
    `timeout_s`. Whether it was carried out is not known then: nothing is ever sent twice.
    """

    def __init__(
        self,
        address: Address,
        login: Login,
        *,
        timeout_s: float,
        random: Random,
        waiting_max: int = WAITING_MAX,
        pushed: Callable[[bytes, bytes], None] | None = None,
    ) -> None:
        self.address = address
        # the server's time when this connection began, in ms, and not before `newest_epoch`
        self.since = 0
        self.newest_epoch = 0
        self._login = login
        self._timeout_s = timeout_s
        self._waiting_max = waiting_max
        self._pushed = pushed
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[Wire] | None = None
        self._next_try = 0.0
        self._closed = False
        self._backoff = Backoff(
            first_s=0.05, max_s=2.0, quiet_s=5.0, tolerated=2**30, window_s=1.0, random=random
        )

    def __repr__(self) -> str:
        return f"<RedisLink {self.address} {'up' if self.up else 'down'}>"

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        return self._wire is not None and self._wire.up

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Send a packed command while there is a connection; see `Wire.send`."""
        if self._wire is None:
            raise unavailable(f"there is no connection to Redis at {self.address}")
        return self._wire.send(packed)

    async def call(self, packed: bytes) -> Any:
        """What a packed command answers; an error reply is an answer (`ReplyError`)."""
        wire = await self.connect()
        return await wire.send(packed)

    async def call_asking(self, packed: bytes) -> Any:
        """The same of a server that is about to get the key's slot."""
        wire = await self.connect()
        # nothing comes in between: both are sent in the same tick
        _, answer = await asyncio.gather(wire.send(_ASKING), wire.send(packed))
        return answer

    async def connect(self) -> Wire:
        """The connection, made now if there is none. All who ask meanwhile share one attempt."""
        if self._wire is not None and self._wire.up:
            return self._wire
        if self._closed:
            raise unavailable("the store is closed")
        if self._connecting is None:
            wait_s = self._next_try - asyncio.get_running_loop().time()
            if wait_s > 0:
                raise unavailable(f"Redis at {self.address} was not there just now", wait_s)
            self._connecting = asyncio.create_task(self._connect(), name=f"connect {self.address}")
            self._connecting.add_done_callback(self._connected)
        attempt = self._connecting
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if not attempt.cancelled():
                raise
            raise unavailable("the store is closed") from None

    async def close(self) -> None:
        """Close the connection; it is not made again."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._wire is not None:
            self._wire.close()
            await self._wire.closed

    def drop(self) -> None:
        """Let go of the connection, as the server is not what it was."""
        if self._wire is not None:
            self._wire.close()

    def _connected(self, task: asyncio.Task[Wire]) -> None:
        self._connecting = None
        if task.cancelled():
            return
        if task.exception() is None:
            self._wire = task.result()
        else:
            loop = asyncio.get_running_loop()
            self._next_try = loop.time() + self._backoff.failed(loop.time())

    async def _connect(self) -> Wire:
        wire = await open_wire(
            self.address,
            self._login,
            timeout_s=self._timeout_s,
            waiting_max=self._waiting_max,
            pushed=self._pushed,
        )
        try:
            answer = await wire.send(_TIME)
            _check(self.address, "TIME", answer)
        except BaseException:
            wire.close()
            raise
        seconds, micros = answer
        self.since = max(int(seconds) * 1000 + int(micros) // 1000, self.newest_epoch + 1)
        return wire


async def open_wire(
    address: Address,
    login: Login,
    *,
    timeout_s: float,
    waiting_max: int = WAITING_MAX,
    pushed: Callable[[bytes, bytes], None] | None = None,
) -> Wire:
    """A connection on which it was said who we are; `StoreUnavailable` says why there is none."""
    wire = Wire(timeout_s=timeout_s, waiting_max=waiting_max, pushed=pushed)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: wire, *address, ssl=login.tls)
    except TimeoutError:
        raise unavailable(f"no connection to Redis at {address} in time") from None
    except SSLError:
        remedy = (
            "check that it speaks TLS, and that its certificate is trusted (ca_file) and its own"
        )
        raise unavailable(f"no TLS with Redis at {address}; {remedy}") from None
    except OSError:
        remedy = "check that it runs, and store.url"
        raise unavailable(f"no connection to Redis at {address}; {remedy}") from None
    try:
        await _greet(wire, address, login)
    except BaseException:
        wire.close()
        raise
    return wire


async def ask(address: Address, login: Login, *words: str, timeout_s: float) -> Any:
    """The answer to one command, over a connection of its own."""
    wire = await open_wire(address, login, timeout_s=timeout_s)
    try:
        return await wire.send(pack(words))
    finally:
        wire.close()


async def _greet(wire: Wire, address: Address, login: Login) -> None:
    greeting = login.greeting()
    answers = await asyncio.gather(*[wire.send(pack(words)) for words in greeting])
    for words, answer in zip(greeting, answers, strict=True):
        _check(address, words[0], answer)


def _check(address: Address, command: str, answer: Any) -> None:
    """`StoreUnavailable` if the server refuses us. The reply's own text may tell who we are."""
    if not isinstance(answer, ReplyError):
        return
    code = str(answer).partition(" ")[0]
    remedy = {
        "WRONGPASS": "user or password of store.url is wrong",
        "NOAUTH": "it wants a password: write it in store.url",
        "NOPERM": f"the user of store.url may not use {command}",
    }.get(code, f"it answered {command} with {code}")
    if command == "AUTH" and code == "ERR":
        remedy = "it takes no password, or no user: check store.url"
    raise unavailable(f"Redis at {address} refused us: {remedy}")
