"""Turns: submit, read, cancel, decide."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct

from pool.turn import Turn, TurnRequest
from protocol import encode, preferences
from protocol.http.rates import accept, stream_place
from protocol.http.reply import Answer, json, problem
from protocol.http.streams import StreamCut, stream_turn
from protocol.preferences import Preferences
from protocol.problems import problem_of_turn

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server


class WaitQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`wait_s`: answer when the turn ends, or after so many seconds."""

    wait_s: Annotated[float, Meta(ge=0, le=60)] = 0


class ApprovalRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The decision about a pending call; `arguments`, if given, must be those that were shown."""

    decision: Literal["approve", "deny"]
    reason: Annotated[str, Meta(max_length=2_000)] = ""
    arguments: dict[str, Any] | None = None


async def submit(server: Server, request: Request) -> Answer:
    """`POST /v1/sessions/{session_id}/turns`"""
    wanted = request.headers.get("Accept")
    if wanted is not None and preferences.wants_events(wanted):
        with stream_place(server, request):
            return await _submit(server, request, _streamed)
    return await _submit(server, request, _plain)


async def _submit(
    server: Server,
    request: Request,
    answer: Callable[[Server, Request, Turn], Awaitable[Answer]],
) -> Answer:
    asked: TurnRequest = request.body
    turn, new = await accept(server, request, asked, request.params["session_id"])
    try:
        return await answer(server, request, turn)
    except (asyncio.CancelledError, StreamCut):
        await left(server, request, turn, new)
        raise


async def read(server: Server, request: Request) -> Answer:
    """`GET /v1/turns/{turn_id}`"""
    turn = await server.pool.wait(
        request.params["turn_id"], timeout_s=request.options.wait_s, principal=request.principal
    )
    return json(200, encode.turn(turn))


async def cancel(server: Server, request: Request) -> Answer:
    """`POST /v1/turns/{turn_id}/cancel`"""
    turn = await server.pool.cancel(request.params["turn_id"], principal=request.principal)
    return json(200 if turn.ended else 202, encode.turn(turn))


async def decide(server: Server, request: Request) -> Answer:
    """`POST /v1/turns/{turn_id}/approvals/{call_id}`"""
    asked: ApprovalRequest = request.body
    turn = await server.pool.decide(
        request.params["turn_id"],
        request.params["call_id"],
        asked.decision,
        reason=asked.reason,
        arguments=asked.arguments,
        repeat=request.idempotency_key is not None,
        principal=request.principal,
        request_id=request.request_id,
    )
    return json(200, encode.turn(turn))


async def left(server: Server, request: Request, turn: Turn, submitted: bool) -> None:
    """The caller left before the answer; one who submitted the turn may want it to end then."""
    if submitted and turn.request.on_disconnect == "cancel":
        await server.pool.cancel(turn.id, principal=request.principal)


def wanted(request: Request) -> Preferences:
    """What the request prefers; nothing in particular for most."""
    headers = request.headers
    return preferences.prefer(headers.getall("Prefer")) if "Prefer" in headers else preferences.NONE


async def wait(server: Server, request: Request, turn: Turn, preferred: Preferences) -> Turn:
    """The turn when it has ended or waits for a human, or when the caller's patience is over."""
    patience_s = preferred.patience_s
    if patience_s == 0:
        return turn
    return await server.pool.wait(
        turn.id, timeout_s=patience_s, until_paused=True, principal=request.principal
    )


async def _streamed(server: Server, request: Request, turn: Turn) -> Answer:
    return await stream_turn(server, request, turn.id, None, encode.sse)


async def _plain(server: Server, request: Request, turn: Turn) -> Answer:
    preferred = wanted(request)
    turn = await wait(server, request, turn, preferred)
    headers = preferred.headers
    if not turn.ended or preferred.patience_s == 0:
        return json(202, encode.turn(turn), (*headers, ("Location", f"/v1/turns/{turn.id}")))
    said = problem_of_turn(turn, request_id=request.request_id)
    if said is not None:
        return problem(said, server.random, headers=headers)
    return json(200, encode.turn(turn), headers)
