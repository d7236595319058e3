"""Clients of several replicas: what breaks at one goes on at another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from random import Random
from time import monotonic
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from protocol.client.sse import SseParser
from tests.fault.replicas import Fleet, Replica
from tests.fault.seen import Seen

# What any one thing may take on a busy machine, in seconds.
PATIENCE_S: Final = 15.0
_PAUSE_S: Final = 0.02
# How long one try may be silent, beyond what it was asked to wait.
_SILENCE_S: Final = 2.0
# How long a stream may be silent.
_STREAM_SILENCE_S: Final = 5.0
_BROKEN: Final = (aiohttp.ClientError, TimeoutError, ConnectionError)


class Reply(NamedTuple):
    """An answer, read to its end; `body` is its JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Caller:
    """Talks to the replicas of a fleet."""

    def __init__(self, http: aiohttp.ClientSession, fleet: Fleet, random: Random) -> None:
        self.http = http
        self.fleet = fleet
        self.random = random
        self.reconnects = 0

    def somewhere(self) -> str:
        """The URL of a replica that is said to live."""
        return self.random.choice(self.fleet.urls or [each.url for each in self.fleet])

    async def call(
        self,
        method: str,
        url: str,
        body: object = None,
        *,
        timeout_s: float = PATIENCE_S,
        **headers: str,
    ) -> Reply:
        """One try of a request. Header names are written with _ for -."""
        async with self.http.request(
            method,
            url,
            json=body,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            data = await response.read()
            return Reply(
                response.status, response.headers, msgspec.json.decode(data) if data else None
            )

    async def insist(
        self, method: str, path: str, body: object = None, *, wait_s: float = 0.0, **headers: str
    ) -> Reply:
        """The first answer that is no refusal to be tried again, from whichever replica."""
        due = monotonic() + PATIENCE_S
        while True:
            with suppress(*_BROKEN):
                reply = await self.call(
                    method, self.somewhere() + path, body, timeout_s=_SILENCE_S + wait_s, **headers
                )
                if reply.status not in (429, 503):
                    return reply
            if monotonic() > due:
                raise AssertionError(f"no replica answers {method} {path}")
            self.reconnects += 1
            await asyncio.sleep(_PAUSE_S)

    async def submit(
        self, session: str, text: str, *, at: Replica | None = None, key: str = "", **more: Any
    ) -> str:
        """The id of a turn that was accepted: by one replica, or by whichever does."""
        headers: dict[str, Any] = {"Prefer": "respond-async"}
        if key:
            headers["Idempotency_Key"] = key
        path, body = f"/v1/sessions/{session}/turns", {"input": text, **more}
        if at is None:
            reply = await self.insist("POST", path, body, **headers)
        else:
            reply = await self.call("POST", at.url + path, body, **headers)
        assert reply.status == 202, reply
        return str(reply.body["id"])

    async def begun(self, *turns: str, attempt: int = 1, known_at: Replica | None = None) -> None:
        """Once agents run this attempt of all these turns, wherever; and, if a replica is named
        that does not run them, once the store knows so too.
        """

        async def run() -> bool:
            ran = {run.turn_id for run in self.fleet.runs.all() if run.attempt >= attempt}
            return ran.issuperset(turns)

        await eventually(run, f"attempt {attempt} of {len(turns)} turns runs")
        if known_at is not None:
            for turn in turns:
                await self.comes_to(turn, "running", at=known_at)

    async def turn(self, turn_id: str, *, at: Replica) -> Any:
        """The turn as a replica reports it now."""
        return (await self.call("GET", f"{at.url}/v1/turns/{turn_id}")).body

    async def ended(self, turn_id: str, *, at: Replica | None = None) -> Any:
        """The turn when it has ended, as one replica tells, or any."""
        path = f"/v1/turns/{turn_id}?wait_s=2"
        due = monotonic() + PATIENCE_S
        while monotonic() < due:
            if at is None:
                reply = await self.insist("GET", path, wait_s=2)
            else:
                reply = await self.call("GET", at.url + path)
            assert reply.status == 200, reply
            if reply.body["state"] in ENDED:
                return reply.body
        raise AssertionError(f"turn {turn_id} does not end: {reply.body}")

    async def comes_to(self, turn_id: str, state: str, *, at: Replica) -> Any:
        """The turn once it is in a state, as one replica tells."""

        async def there() -> Any:
            turn = await self.turn(turn_id, at=at)
            return turn if turn["state"] == state else None

        return await eventually(there, f"turn {turn_id} is {state}")

    async def messages(self, session: str) -> list[tuple[str, str]]:
        """The transcript: role and content."""
        reply = await self.insist("GET", f"/v1/sessions/{session}/messages?limit=1000")
        return [(each["role"], each["content"]) for each in reply.body["messages"]]

    async def read(
        self,
        turn_id: str,
        seen: Seen,
        *,
        at: Replica | None = None,
        leaves: Callable[[], bool] = lambda: False,
    ) -> None:
        """Read a turn's events to its end, over as many connections as it takes.

        `leaves`: asked after each event whether to leave, and go on at another replica.
        """
        due = monotonic() + PATIENCE_S
        while monotonic() < due:
            url = self.somewhere() if at is None else at.url
            if await self.try_once(f"{url}/v1/turns/{turn_id}/events", seen, leaves):
                return
        raise AssertionError(f"turn {turn_id}: no end among {seen.events[-3:]}")

    async def try_once(
        self, url: str, seen: Seen, leaves: Callable[[], bool] = lambda: False
    ) -> bool:
        """`read_once`, and a pause if it broke off."""
        with suppress(*_BROKEN):
            if await self.read_once(url, seen, leaves):
                return True
        self.reconnects += 1
        await asyncio.sleep(_PAUSE_S)
        return False

    async def read_once(
        self,
        url: str,
        seen: Seen,
        leaves: Callable[[], bool] = lambda: False,
        told: Callable[[int], None] = lambda _: None,
    ) -> bool:
        """Read one stream; whether it came to the terminal event.

        `told`: called with the seconds that a refusal says to stay away.
        """
        parser = SseParser()
        headers = {"Accept": "text/event-stream"}
        if seen.cursor is not None:
            headers["Last-Event-ID"] = seen.cursor
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_SILENCE_S, sock_read=_STREAM_SILENCE_S
        )
        async with self.http.get(url, headers=headers, timeout=timeout) as response:
            if response.status == 204:
                return True
            if response.status in (429, 503):
                told(int(response.headers["Retry-After"]))
                return False
            assert response.status == 200, (response.status, await response.text())
            async for chunk in response.content.iter_any():
                for data in parser.feed(chunk):
                    event = msgspec.json.decode(data)
                    seen.take(event)
                    if "turn" in event:
                        return True
                    if leaves():
                        return False
        return False


@asynccontextmanager
async def calling(fleet: Fleet, *, seed: int = 0) -> AsyncIterator[Caller]:
    """A caller of the fleet's replicas."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        yield Caller(http, fleet, Random(seed))


async def eventually(
    condition: Callable[[], Awaitable[Any]], what: str, *, patience_s: float = PATIENCE_S
) -> Any:
    """What a condition gives once it gives something; nobody tells of it, so it is asked again."""
    due = monotonic() + patience_s
    while not (found := await condition()):
        if monotonic() > due:
            raise AssertionError(f"not within {patience_s:g} s: {what}")
        await asyncio.sleep(_PAUSE_S)
    return found


ENDED: Final = frozenset({"completed", "failed", "cancelled", "expired", "interrupted"})
