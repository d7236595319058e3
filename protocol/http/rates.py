"""What answers say of the caller's limits, and the connections that streamed answers take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING

from pool.asking import Acceptance
from pool.errors import RateLimited
from pool.guard.rates import RatedRequest
from pool.turn import TurnRequest
from protocol.http.reply import Headers

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server

# How soon another stream may have ended, in seconds.
_SOON_S = 1.0


def rate_headers(request: RatedRequest) -> Headers:
    """How the caller stands under its limits (draft-ietf-httpapi-ratelimit-headers-10); nothing
    before the request was counted.
    """
    if not request.windows:
        return ()
    at, windows = request.at, request.windows
    policy = [
        f'"{window.name}";q={window.amount};w={window.limit.window_s};qu="{window.limit.what}"'
        for window in windows
    ]
    limit = [
        f'"{window.name}";r={max(0, window.amount - count)};t={ceil(window.ends - at)}'
        for window, count in zip(windows, request.counts, strict=False)
    ]
    return (("RateLimit-Policy", ", ".join(policy)), ("RateLimit", ", ".join(limit)))


async def accept(
    server: Server, request: Request, asked: TurnRequest, session: str | None
) -> Acceptance:
    """Have a turn accepted."""
    return await server.pool.accept(
        asked,
        session=session,
        idempotency_key=request.idempotency_key,
        principal=request.principal,
        request_id=request.request_id,
        rated=request.rated,
    )


@contextmanager
def stream_place(server: Server, request: Request) -> Iterator[None]:
    """One of the connections that the caller's tenant may have, for an answer that is streamed;
    `RateLimited` if it has them all.
    """
    quota, tenant = server.pool.ledger.connections, request.principal.tenant
    if not quota.take(tenant):
        raise RateLimited(
            "your tenant has as many streams and WebSockets open here as it may",
            retry_after_s=_SOON_S,
        )
    try:
        yield
    finally:
        quota.give(tenant)
