"""What one route is: where it is, who answers, and what the OpenAPI document says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from protocol.http.reply import JSON, Answer

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server

Handler = Callable[["Server", "Request"], Awaitable[Answer]]
# of a route that needs nothing of the server
PlainHandler = Callable[["Request"], Awaitable[Answer]]


class Said(Struct, frozen=True):
    """One kind of answer: what it means, the type of its body (None: no body), more headers."""

    description: str
    body: Any = None
    content_type: str = JSON
    headers: tuple[str, ...] = ()
    # what else the same status may carry: content type -> type of body
    also: Mapping[str, Any] = {}


class Route(Struct, frozen=True, kw_only=True):
    """One method of one path.

    `{name}` in `path` is an id. `body` and `query` are the types that a request is decoded into;
    with `body_required` False an absent body counts as `{}`. `headers` are those that change the
    answer, `problems` the codes beyond those that any request may get. `public`: callers need not
    say who they are, if the server's configuration says so. `role`: what they must be. `counts`: it
    makes something, and is a request under its caller's limits.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    answers: Mapping[int, Said]
    body: Any = None
    body_required: bool = True
    query: Any = None
    headers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    public: bool = False
    role: str = "user"
    counts: bool = False

    @property
    def name(self) -> str:
        """What names the operation in the OpenAPI document."""
        return f"{self.tag}_{self.handler.__name__}"


def extra_route(method: str, path: str, handler: PlainHandler) -> Route:
    """A route for operators whose handler answers by itself."""

    async def serve(server: Server, request: Request) -> Answer:
        # a task of its own: context variables that somebody else's code sets end with it
        return await asyncio.ensure_future(handler(request.complete()))

    serve.__name__ = f"{method}{path.replace('/', '_')}".lower()
    return Route(
        method=method,
        path=path,
        handler=serve,
        summary="A route of its own handler.",
        tag="extra",
        answers={200: Said("What the handler says.", Any, "*/*")},
        role="operator",
    )
