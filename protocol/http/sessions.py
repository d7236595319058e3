"""Sessions: make, list, read, fork, forget; and their transcripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from pool.turn import Id
from protocol import encode
from protocol.bodies import MessageBody, SessionBody
from protocol.http.reply import Answer, Reply, json

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server


class SessionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A session to make. `agent` answers the turns that name none; `ttl_s` is how long it is kept
    after its last turn."""

    session_id: Id | None = None
    agent: Id | None = None
    metadata: dict[str, Any] | None = None
    ttl_s: Annotated[float, Meta(gt=0, le=315_360_000)] | None = None


class ForkRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A new session with this one's transcript, up to and with `through_turn` (default: all)."""

    session_id: Id | None = None
    through_turn: Id | None = None


class PageQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`limit`: how many; `cursor`: the `next_cursor` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: str | None = None


class SessionsPage(Struct, frozen=True):
    """A part of the caller's sessions; `next_cursor` is null on the last."""

    sessions: list[SessionBody]
    next_cursor: str | None


class MessagesPage(Struct, frozen=True):
    """A part of a transcript, oldest first; `next_cursor` is null on the last."""

    messages: list[MessageBody]
    next_cursor: str | None


async def create(server: Server, request: Request) -> Answer:
    """`POST /v1/sessions`"""
    asked: SessionRequest = request.body
    info = await server.pool.create_session(
        asked.session_id,
        agent=asked.agent,
        metadata=asked.metadata,
        ttl_s=asked.ttl_s,
        principal=request.principal,
        rated=request.rated,
    )
    return json(201, encode.session(info), _location(info.id))


async def page(server: Server, request: Request) -> Answer:
    """`GET /v1/sessions`"""
    asked: PageQuery = request.options
    found = await server.pool.sessions(asked.cursor, asked.limit, principal=request.principal)
    body = SessionsPage([encode.session_body(info) for info in found.items], found.next)
    return json(200, msgspec.json.encode(body))


async def read(server: Server, request: Request) -> Answer:
    """`GET /v1/sessions/{session_id}`"""
    info = await server.pool.session(request.params["session_id"], principal=request.principal)
    return json(200, encode.session(info))


async def delete(server: Server, request: Request) -> Answer:
    """`DELETE /v1/sessions/{session_id}`"""
    await server.pool.delete_session(request.params["session_id"], principal=request.principal)
    return Reply(204)


async def messages(server: Server, request: Request) -> Answer:
    """`GET /v1/sessions/{session_id}/messages`"""
    asked: PageQuery = request.options
    found = await server.pool.messages(
        request.params["session_id"], asked.cursor, asked.limit, principal=request.principal
    )
    body = MessagesPage([encode.message_body(message) for message in found.items], found.next)
    return json(200, msgspec.json.encode(body))


async def fork(server: Server, request: Request) -> Answer:
    """`POST /v1/sessions/{session_id}/fork`"""
    asked: ForkRequest = request.body
    info = await server.pool.fork_session(
        request.params["session_id"],
        asked.session_id,
        asked.through_turn,
        principal=request.principal,
        rated=request.rated,
    )
    return json(201, encode.session(info), _location(info.id))


def _location(session_id: str) -> tuple[tuple[str, str]]:
    return (("Location", f"/v1/sessions/{session_id}"),)
