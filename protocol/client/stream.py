"""A turn's events over HTTP, through broken connections: no gap, no event twice."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import aiohttp

from protocol.client.backoff import Patience
from protocol.client.errors import ConnectionLost, ProblemError
from protocol.client.events import ClientEvent, decode
from protocol.client.http import Call, Http
from protocol.client.sse import SseParser

# The server says something every 15 s, if only that it is there.
_SILENCE_S: Final = 35.0
_NO_CONTENT: Final = 204


async def follow(http: Http, first: Call) -> AsyncGenerator[ClientEvent, None]:
    """The events that `first` (a submit or a resume) gives, to the terminal one.

    When the connection breaks, reading goes on after the last event; before the first event `first`
    is sent again, which for a submit takes an idempotency key.
    """
    patience = http.patience()
    call = first
    while True:
        try:
            async with aclosing(_events(http, call, patience)) as events:
                async for event in events:
                    patience.reset()
                    call = _after(event) if event.turn_id else call
                    yield event
                    if event.terminal:
                        return
            return
        except (ProblemError, ConnectionLost) as error:
            await http.pause(patience, error)


def _after(event: ClientEvent) -> Call:
    return Call("GET", f"/v1/turns/{event.turn_id}/events", params={"after": event.id})


async def _events(http: Http, call: Call, patience: Patience) -> AsyncGenerator[ClientEvent, None]:
    """One connection's events. Ends only where nothing follows the cursor."""
    parser = SseParser()
    async with http.open_response(call._replace(wait_s=_SILENCE_S)) as response:
        if response.status == _NO_CONTENT:
            return
        patience.connected()
        try:
            async for chunk in response.content.iter_any():
                for data in parser.feed(chunk):
                    yield decode(data)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionLost(f"the stream broke off: {type(error).__name__}") from error
    raise ConnectionLost("the stream ended before the turn")
