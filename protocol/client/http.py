"""Requests over HTTP: sent, tried again when that is safe, and their problems raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

import aiohttp
import msgspec
from msgspec import DecodeError, Struct

from protocol.client.backoff import Patience
from protocol.client.errors import ClientError, ConnectionLost, ProblemError, ProtocolViolation
from protocol.client.models import ProblemBody

T = TypeVar("T")

# Refusals after which the same request may be tried: nothing was done.
_TRY_AGAIN: Final = frozenset({429, 503})
_problem: Final = msgspec.json.Decoder(ProblemBody)


class Call(NamedTuple):
    """A request.

    `wait_s`: how long the server may take beyond the usual. `repeatable`: it may be sent again when
    it is not known what became of it. `report`: its body counts, whatever the status.
    """

    method: str
    path: str
    body: Struct | dict[str, Any] | None = None
    params: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    wait_s: float = 0.0
    repeatable: bool = True
    report: bool = False


class Answer(NamedTuple):
    """The status and the body of a response."""

    status: int
    body: bytes


class Http:
    """A session of aiohttp, with the server's address and the caller's key.

    `timeout_s`: for connecting, and for an answer to begin or go on. `retry_for_s`: for how long a
    call is tried again.
    """

    def __init__(
        self, url: str, *, api_key: str | None, timeout_s: float, retry_for_s: float, random: Random
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._api_key = api_key
        self._retry_for_s = retry_for_s
        self._random = random
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make ready for use."""
        headers = {} if self._api_key is None else {"Authorization": f"Bearer {self._api_key}"}
        # A turn may take minutes and the caller any number of them: no limit on connections here.
        self._session = aiohttp.ClientSession(
            headers=headers, connector=aiohttp.TCPConnector(limit=0), auto_decompress=True
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session."""
        if self._session is None:
            raise RuntimeError("the client is not open; use it in `async with`")
        return self._session

    def patience(self) -> Patience:
        """The pauses of one call."""
        clock = asyncio.get_running_loop().time
        return Patience(self._retry_for_s, clock=clock, random=self._random.random)

    async def call(self, call: Call) -> Answer:
        """Send a request and read the answer.

        `ProblemError` if the server refuses it, `ConnectionLost` if it cannot be reached (or, for
        what is not repeatable, if the connection broke).
        """
        patience = self.patience()
        while True:
            try:
                async with self.open_response(call) as response:
                    return Answer(response.status, await response.read())
            except (ProblemError, ConnectionLost) as error:
                await self.pause(patience, error, repeatable=call.repeatable)
            except (aiohttp.ClientError, TimeoutError) as error:
                lost = ConnectionLost(f"the answer of {self.url} broke off: {type(error).__name__}")
                await self.pause(patience, lost, repeatable=call.repeatable)

    async def pause(
        self, patience: Patience, error: ClientError, *, repeatable: bool = True
    ) -> None:
        """Wait before the next try; raises the error if there is to be none."""
        after_s: float | None = None
        if isinstance(error, ProblemError):
            if error.status not in _TRY_AGAIN or not error.retryable:
                raise error
            after_s = error.retry_after_s
        elif not repeatable:
            raise error
        pause_s = patience.pause_s(after_s)
        if pause_s is None:
            raise error
        await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def open_response(self, call: Call) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """One try of a request. `ProblemError`, `ConnectionLost`."""
        headers = dict(call.headers)
        data = None
        if call.body is not None:
            data = msgspec.json.encode(call.body)
            headers["Content-Type"] = "application/json"
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self.timeout_s, sock_read=self.timeout_s + call.wait_s
        )
        try:
            response = await self.session.request(
                call.method,
                self.url + call.path,
                params=call.params,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
            raise ConnectionLost(f"{self.url} does not answer: {type(error).__name__}") from error
        try:
            if response.status >= 300 and not call.report:
                raise ProblemError(await _read_problem(response))
            yield response
        finally:
            response.release()


def read(kind: type[T], body: bytes) -> T:
    """The body as what it is to be; `ProtocolViolation` if it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except DecodeError as error:
        raise ProtocolViolation(f"the answer is no {kind.__name__}: {error}") from None


async def _read_problem(response: aiohttp.ClientResponse) -> ProblemBody:
    try:
        body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ConnectionLost(f"the answer broke off: {type(error).__name__}") from error
    try:
        return _problem.decode(body)
    except DecodeError:
        # something between us and the server answered: a proxy, most likely
        return _foreign(response)


def _foreign(response: aiohttp.ClientResponse) -> ProblemBody:
    after = response.headers.get("Retry-After", "")
    return ProblemBody(
        code="unknown",
        status=response.status,
        detail=f"{response.status} {response.reason}, without a problem that says why",
        retryable=response.status in (429, 502, 503, 504),
        retry_after_s=float(after) if after.isascii() and after.isdigit() else None,
    )
