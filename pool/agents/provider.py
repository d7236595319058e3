"""A connection to a model's provider: a request, its streamed answer, every way it can fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Final, Protocol

import aiohttp

from pool.agents.model import Answer, BrokenOff, Hearing
from pool.agents.refusals import Refusal, broken, read_refusal, refused, refused_midway
from pool.agents.sse import EventData
from pool.errors import ModelUnusable, ProviderError, ProviderTimeout
from pool.events import Event
from pool.guard.breaker import Breaker

_CONNECT_S: Final = 10.0
# How long a complete answer may keep its connection before it is closed instead of used again.
_LINGER_S: Final = 1.0
_NO_STREAM: Final = ("application/json", "text/html")
_MAX_REFUSAL_BYTES: Final = 65_536


class Reader(Protocol):
    """Takes the data of a stream's events and makes our events of them."""

    # The provider has said that nothing more will come.
    done: bool
    # How many characters it has taken that it makes no event of.
    unsaid: int

    def take(self, data: Sequence[bytes]) -> Sequence[Event]:
        """What these events of the stream say."""

    def answer(self) -> Answer:
        """All of it; `ProviderError` if it ended before it was complete."""


class Provider:
    """An HTTP client for one base URL. `timeout_s`: how many seconds it may be silent. `reach`: the
    circuit breaker for whether it can be reached.
    """

    __slots__ = ("_base_url", "_headers", "_reach", "_session", "_timeout_s")

    _session: aiohttp.ClientSession

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        timeout_s: float,
        reach: Breaker | None = None,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = headers
        self._timeout_s = timeout_s
        self._reach = reach

    async def open(self) -> None:
        """Make the client; it connects with the first request."""
        # Environment is the command's business, and cookies would be shared by all who are served.
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None,
                # the name's look-up as well, which `sock_connect` leaves out
                connect=self._connect_s,
                sock_read=self._timeout_s,
            ),
            trace_configs=[_tracing()],
        )

    @property
    def _connect_s(self) -> float:
        return min(_CONNECT_S, self._timeout_s)

    async def close(self) -> None:
        """Close the client and its connection."""
        await self._session.close()

    async def stream(self, path: str, body: bytes, reader: Reader, heard: Hearing) -> Answer:
        """Post `body` and emit what the reader makes of the answer, until its end; all of it.

        What came in one piece is emitted together. Broken off, by cancellation or otherwise, it
        closes the connection at once. Raises `ProviderError`; `BrokenOff` if something was emitted.
        Raises `BreakerOpen` if the provider is to be left alone.
        """
        response = await self._reached(path, body, heard)
        told = False
        try:
            if response.status != 200:
                raise await self._refusal(response, heard)
            if response.content_type in _NO_STREAM:
                raise await self._no_stream(response, heard)
            events = EventData()
            while not reader.done and (data := await self._read(response)):
                said = reader.take(events.feed(data))
                heard.unsaid = reader.unsaid
                for event in said:
                    told = True
                    await heard(event)
            await _finish(response)
            return reader.answer()
        except ProviderError as error:
            if told:
                raise BrokenOff(error) from error
            raise
        finally:
            # Does nothing to a connection that was given back at the answer's end.
            response.close()

    async def _reached(self, path: str, body: bytes, heard: Hearing) -> aiohttp.ClientResponse:
        if self._reach is None:
            return await self._post(path, body, heard)
        # whatever it answers, it is there
        with self._reach.enter() as passage:
            try:
                return await self._post(path, body, heard)
            except ProviderTimeout as error:
                if not isinstance(error.__cause__, aiohttp.ConnectionTimeoutError):
                    # it was reached; that it says nothing may be for this model alone
                    passage.succeeded()
                raise

    async def _post(self, path: str, body: bytes, heard: Hearing) -> aiohttp.ClientResponse:
        try:
            return await self._session.post(
                self._base_url + path,
                data=body,
                # A redirect would take the key elsewhere.
                allow_redirects=False,
                trace_request_ctx=heard,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(error, "could not be reached") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(error, "broke off its answer") from error

    async def _refusal(self, response: aiohttp.ClientResponse, heard: Hearing) -> ProviderError:
        refusal = read_refusal(await self._beginning(response))
        error = refused(response.status, response.headers, refusal, now=time.time())
        return _note_refused(heard, error)

    async def _no_stream(self, response: aiohttp.ClientResponse, heard: Hearing) -> ProviderError:
        refusal = read_refusal(await self._beginning(response))
        if refusal != Refusal():
            # some say 200 first and then what is wrong
            return _note_refused(heard, refused_midway(refusal))
        return ModelUnusable(
            f"the model's provider answered {response.content_type}, not a stream: check base_url"
        )

    async def _beginning(self, response: aiohttp.ClientResponse) -> bytes:
        """As much of a body as comes, up to a limit."""
        body = bytearray()
        # the status has said the most already: that the rest does not come changes nothing of it
        with suppress(ProviderError):
            while len(body) < _MAX_REFUSAL_BYTES and (data := await self._read(response)):
                body += data
        return bytes(body)

    def _broken(self, error: Exception, what: str) -> ProviderError:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ProviderTimeout(
                f"the model's provider could not be reached within {self._connect_s:g} s"
            )
        if isinstance(error, asyncio.TimeoutError):
            return ProviderTimeout(f"the model's provider was silent for {self._timeout_s:g} s")
        return broken(f"the model's provider {what} ({type(error).__name__})")


def _tracing() -> aiohttp.TraceConfig:
    """Notes in its `Hearing` that a request goes out: its connection is there."""
    tracing = aiohttp.TraceConfig()
    tracing.on_request_chunk_sent.append(_note_sent)
    return tracing


async def _note_sent(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestChunkSentParams
) -> None:
    heard: Hearing = context.trace_request_ctx
    heard.sent = True


def _note_refused(heard: Hearing, error: ProviderError) -> ProviderError:
    # a gateway that gave up waiting does not say what was done behind it
    heard.refused = not isinstance(error, ProviderTimeout)
    return error


async def _finish(response: aiohttp.ClientResponse) -> None:
    """Read a complete answer's end, so that its connection can be used again."""
    if response.content.at_eof():
        return
    closing = asyncio.get_running_loop().call_later(_LINGER_S, response.close)
    try:
        while await response.content.readany():
            continue
    except (aiohttp.ClientError, OSError):
        # The answer is complete: a connection that breaks now is only not used again.
        return
    finally:
        closing.cancel()
