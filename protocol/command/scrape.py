"""The page of metrics as a route of the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from prometheus_async.aio import time
from prometheus_client import Summary

from pool.telemetry.metrics import Metrics

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def scrape_route(metrics: Metrics) -> Handler:
    """A handler for `GET /metrics`: the text format, or OpenMetrics for those who accept it.

    The library's own handler knows only the registry that is common to the whole process.
    """
    duration = Summary(
        "actorpool_scrape_seconds",
        "Seconds that it took to write this page.",
        registry=metrics.registry,
    )

    async def page(request: web.BaseRequest) -> web.StreamResponse:
        body, content_type = metrics.page(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})

    handler: Handler = time(duration)(page)
    return handler
