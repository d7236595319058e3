"""Posts ended turns to their webhooks, and other messages, signed as Standard Webhooks says.

Every connection is to an address that was checked. Redirects are not followed, and what is answered
is not read.
"""

from __future__ import annotations

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
from pool.guard.connector import connector_to, leads_astray
from pool.turn import Turn
from pool.webhooks import NotDelivered
from protocol import encode
from protocol.webhook.config import WebhookConfig
from protocol.webhook.urls import checked

_GONE: Final = 410


class WebhookBody(Struct, frozen=True):
    """What is posted: `data` is the turn as `GET /v1/turns/{turn_id}` shows it."""

    type: str
    timestamp: datetime
    data: Raw


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
        self._signer = _signer(config.secret)
        self._resolver = resolver
        self._wall = wall
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=connector_to(self._config.networks, self._resolver),
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
        if turn.request.webhook is None:
            raise NotDelivered("the turn has no webhook", final=True)
        await self.post(turn.request.webhook.url, turn.id, body_of(turn))

    async def post(self, url: str, message_id: str, body: bytes) -> None:
        """Post a message, once; `NotDelivered` unless the answer is 2xx. A receiver knows by the id
        that it has had it before.
        """
        if self._http is None:
            raise RuntimeError("a poster is used within `async with`")
        try:
            # again: the configuration may be another one than when the URL was given
            goal = checked(url, self._config)
        except InvalidRequest as refused:
            raise NotDelivered(refused.detail, final=True) from None
        headers = self._headers(message_id, body)
        try:
            async with self._http.post(
                goal, data=body, headers=headers, allow_redirects=False
            ) as answer:
                _judge(answer)
        except aiohttp.ClientConnectorError as error:
            if leads_astray(error):
                raise NotDelivered("its name leads to a refused address", final=True) from None
            raise NotDelivered(f"no connection ({type(error).__name__})") from None
        except aiohttp.ClientError as error:
            raise NotDelivered(f"no answer ({type(error).__name__})") from None

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        now = datetime.fromtimestamp(int(self._wall()), UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer(message_id, now, body.decode()),
        }


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
