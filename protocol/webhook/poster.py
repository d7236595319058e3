"""Posts ended turns to their webhooks, signed as Standard Webhooks says.

Every connection is to an address that was checked: the check is made on the very address that a
socket is made for, after the last look-up. So no name, however its answers change, and no spelling
of an address leads elsewhere. Redirects are not followed, and what is answered is not read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from time import time
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from msgspec import Raw, Struct

from pool.errors import ConfigError, InvalidRequest
from pool.events import ENDINGS
from pool.turn import Turn
from pool.webhooks import NotDelivered
from protocol import encode
from protocol.webhook.addresses import may_connect
from protocol.webhook.config import WebhookConfig
from protocol.webhook.urls import checked

_GONE: Final = 410


class WebhookBody(Struct, frozen=True):
    """What is posted: `data` is the turn as `GET /v1/turns/{turn_id}` shows it."""

    type: str
    timestamp: datetime
    data: Raw


class RefusedAddress(OSError):
    """A name led to an address that webhooks may not go to."""


class Poster:
    """The `pool.webhooks.Webhooks` of a server; used as `async with Poster(config) as poster`.

    `resolver`: looks up names (default: the system's). `wall`: seconds since the epoch.
    """

    def __init__(
        self,
        config: WebhookConfig,
        *,
        resolver: AbstractResolver | None = None,
        wall: Callable[[], float] = time,
    ) -> None:
        self._config = config
        self._networks = config.networks
        self._signer = _signer(config.secret)
        self._resolver = resolver
        self._wall = wall
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0, resolver=self._resolver, socket_factory=self._socket
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            # who calls `deliver` says how long it may take
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={hdrs.USER_AGENT: "actorpool", hdrs.CONTENT_TYPE: "application/json"},
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    def check(self, url: str) -> None:
        """`InvalidRequest` if nothing can be posted there, as far as the URL itself tells."""
        checked(url, self._config)

    async def deliver(self, turn: Turn) -> None:
        """Post the turn, once; `NotDelivered` unless the answer is 2xx."""
        if self._http is None:
            raise RuntimeError("a poster is used within `async with`")
        if turn.request.webhook is None:
            raise NotDelivered("the turn has no webhook", final=True)
        try:
            # again: the configuration may be another one than when the turn was accepted
            url = checked(turn.request.webhook.url, self._config)
        except InvalidRequest as refused:
            raise NotDelivered(refused.detail, final=True) from None
        body = body_of(turn)
        headers = self._headers(turn.id, body)
        try:
            async with self._http.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                _judge(answer)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.__cause__, RefusedAddress):
                raise NotDelivered("its name leads to a refused address", final=True) from None
            raise NotDelivered(f"no connection ({type(error).__name__})") from None
        except aiohttp.ClientError as error:
            raise NotDelivered(f"no answer ({type(error).__name__})") from None

    def _headers(self, turn_id: str, body: bytes) -> dict[str, str]:
        now = datetime.fromtimestamp(int(self._wall()), UTC)
        return {
            "webhook-id": turn_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer(turn_id, now, body.decode()),
        }

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, proto, _, address = info
        if not may_connect(address[0], self._networks):
            raise RefusedAddress("webhooks may not go there")
        return socket.socket(family, kind, proto)


def body_of(turn: Turn) -> bytes:
    """The body of an ended turn's webhook: the same at every try."""
    ended = turn.finished_at if turn.finished_at is not None else turn.created_at
    kind = ENDINGS[turn.state].type
    return msgspec.json.encode(WebhookBody(kind, encode.when(ended), Raw(encode.turn(turn))))


def _judge(answer: aiohttp.ClientResponse) -> None:
    """Return if the receiver took it."""
    status = answer.status
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise NotDelivered(f"answered {status}, and redirects are not followed")
    pause = answer.headers.get(hdrs.RETRY_AFTER, "")
    raise NotDelivered(
        f"answered {status}",
        final=status == _GONE,
        retry_after_s=float(pause) if pause.isascii() and pause.isdigit() else 0.0,
    )


def _signer(secret: str) -> Callable[[str, datetime, str], str]:
    try:
        from standardwebhooks import Webhook
    except ModuleNotFoundError:
        remedy = 'webhooks need another package: pip install "actorpool[webhooks]"'
        raise ConfigError("webhooks.secret", "...", remedy) from None
    sign: Callable[[str, datetime, str], str] = Webhook(secret).sign
    return sign
