"""Every route of the server: what is served and what the OpenAPI document says come from here."""

from __future__ import annotations

from typing import Any, Final

from pool.stats import PoolStats
from pool.turn import TurnRequest
from protocol.bodies import AnyEvent, SessionBody, TurnBody
from protocol.http import agents, health, sessions, simple, sockets, streams, turns
from protocol.http.reply import PROBLEM
from protocol.preferences import EVENT_STREAM
from protocol.problems import Problem
from protocol.route import Route, Said

_ADMISSION: Final = (
    "tenant_queue_full",
    "overloaded",
    "agent_degraded",
    "draining",
    "budget_exceeded",
)
_FAILURE: Final = ("agent_failed", "dead_letter", "deadline_exceeded")
_KEY: Final = ("conflict", "idempotency_mismatch")

_TURN: Final = Said("The turn.", TurnBody)
_SESSION_MADE: Final = Said("The session.", SessionBody, headers=("Location",))
_EVENTS: Final = {EVENT_STREAM: AnyEvent}
_EVENTS_SAID: Final = Said("The events.", AnyEvent, EVENT_STREAM)
_NOTHING_LEFT: Final = Said("The cursor is at or past the terminal event.")

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/v1/agents",
        handler=agents.agents,
        summary="Every agent of the pool.",
        tag="agents",
        answers={200: Said("The agents.", agents.AgentsBody)},
    ),
    Route(
        method="POST",
        path="/v1/sessions",
        handler=sessions.create,
        summary="Make a session.",
        tag="sessions",
        body=sessions.SessionRequest,
        body_required=False,
        answers={201: _SESSION_MADE},
        problems=("not_found", "conflict", "store_unavailable"),
    ),
    Route(
        method="GET",
        path="/v1/sessions",
        handler=sessions.page,
        summary="The caller's sessions, in the order of their making.",
        tag="sessions",
        query=sessions.PageQuery,
        answers={200: Said("A page of them.", sessions.SessionsPage)},
        problems=("store_unavailable",),
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}",
        handler=sessions.read,
        summary="A session.",
        tag="sessions",
        answers={200: Said("The session.", SessionBody)},
        problems=("not_found", "store_unavailable"),
    ),
    Route(
        method="DELETE",
        path="/v1/sessions/{session_id}",
        handler=sessions.delete,
        summary="Forget a session with all its turns.",
        tag="sessions",
        answers={204: Said("It is forgotten.")},
        problems=("not_found", "session_busy", "store_unavailable"),
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/messages",
        handler=sessions.messages,
        summary="A session's transcript, oldest first.",
        tag="sessions",
        query=sessions.PageQuery,
        answers={200: Said("A page of it.", sessions.MessagesPage)},
        problems=("not_found", "store_unavailable"),
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/fork",
        handler=sessions.fork,
        summary="A new session with the transcript of this one.",
        tag="sessions",
        body=sessions.ForkRequest,
        body_required=False,
        answers={201: _SESSION_MADE},
        problems=("not_found", "conflict", "store_unavailable"),
    ),
    Route(
        method="POST",
        path="/v1/sessions/{session_id}/turns",
        handler=turns.submit,
        summary="Submit a turn. The session is made if it is new.",
        tag="turns",
        body=TurnRequest,
        headers=("Idempotency-Key", "Prefer"),
        answers={
            200: Said("The turn, ended; or its events.", TurnBody, also=_EVENTS),
            202: Said(
                "The turn, still running or waiting for a human.", TurnBody, headers=("Location",)
            ),
            204: _NOTHING_LEFT,
        },
        problems=(
            "not_found",
            "session_busy",
            "store_unavailable",
            *_KEY,
            *_ADMISSION,
            *_FAILURE,
        ),
    ),
    Route(
        method="GET",
        path="/v1/sessions/{session_id}/events",
        handler=streams.session_events,
        summary="Everything in the session from now on, or from a cursor.",
        tag="sessions",
        query=streams.AfterQuery,
        headers=("Last-Event-ID",),
        answers={200: _EVENTS_SAID},
        problems=("not_found", "store_unavailable"),
    ),
    Route(
        method="GET",
        path="/v1/turns/{turn_id}",
        handler=turns.read,
        summary="A turn, whatever became of it.",
        tag="turns",
        query=turns.WaitQuery,
        answers={200: _TURN},
        problems=("not_found", "store_unavailable"),
    ),
    Route(
        method="GET",
        path="/v1/turns/{turn_id}/events",
        handler=streams.turn_events,
        summary="A turn's events from its first one, or from a cursor, to its end.",
        tag="turns",
        query=streams.AfterQuery,
        headers=("Last-Event-ID",),
        answers={200: _EVENTS_SAID, 204: _NOTHING_LEFT},
        problems=("not_found", "store_unavailable"),
    ),
    Route(
        method="POST",
        path="/v1/turns/{turn_id}/cancel",
        handler=turns.cancel,
        summary="Cancel a turn. One that has ended stays as it is.",
        tag="turns",
        answers={
            200: Said("The turn, ended.", TurnBody),
            202: Said("The turn, still stopping.", TurnBody),
        },
        problems=("not_found", "store_unavailable"),
    ),
    Route(
        method="POST",
        path="/v1/turns/{turn_id}/approvals/{call_id}",
        handler=turns.decide,
        summary="Approve or deny a pending call of a tool.",
        tag="turns",
        body=turns.ApprovalRequest,
        headers=("Idempotency-Key",),
        answers={200: _TURN},
        problems=("not_found", "conflict", "forbidden", "store_unavailable"),
    ),
    Route(
        method="GET",
        path="/v1/pool",
        handler=agents.stats,
        summary="Live state of the pool and every agent.",
        tag="pool",
        answers={200: Said("The pool.", PoolStats)},
        problems=("forbidden",),
        role="operator",
    ),
    Route(
        method="PATCH",
        path="/v1/pool/{agent}",
        handler=agents.resize,
        summary="Change how many actors an agent may have.",
        tag="pool",
        body=agents.ResizeBody,
        answers={200: Said("The pool, after.", PoolStats)},
        problems=("not_found", "forbidden"),
        role="admin",
    ),
    Route(
        method="GET",
        path="/health",
        handler=health.health,
        summary="Whether the process lives.",
        tag="server",
        answers={200: Said("It does.", health.HealthBody)},
        public=True,
    ),
    Route(
        method="GET",
        path="/ready",
        handler=health.ready,
        summary="Whether the server may take traffic.",
        tag="server",
        answers={
            200: Said("It may.", health.ReadyBody),
            503: Said(
                "It may not.", health.ReadyBody, headers=("Retry-After",), also={PROBLEM: Problem}
            ),
        },
        public=True,
    ),
    Route(
        method="GET",
        path="/openapi.json",
        handler=health.openapi,
        summary="This document.",
        tag="server",
        answers={200: Said("The document.", dict[str, Any])},
        public=True,
    ),
    Route(
        method="GET",
        path="/v1/ws",
        handler=sockets.websocket,
        summary="Open a WebSocket of the subprotocol `actorpool.v1`.",
        tag="sockets",
        answers={101: Said("It is open.")},
        problems=("unauthenticated", "forbidden"),
        # the door asks by itself: a ticket comes after the handshake
        public=True,
    ),
    Route(
        method="POST",
        path="/v1/ws/tickets",
        handler=sockets.ticket,
        summary="A ticket for a WebSocket: for one use, by whoever cannot set headers there.",
        tag="sockets",
        answers={201: Said("The ticket.", sockets.TicketBody)},
    ),
    Route(
        method="POST",
        path="/agent/invoke",
        handler=simple.invoke,
        summary="Ask the default agent and wait for its answer.",
        tag="simple",
        body=simple.InvokeRequest,
        headers=("Idempotency-Key",),
        answers={
            200: Said("The answer.", simple.InvokeBody),
            202: Said("What was said so far; a tool's call waits for a human.", simple.InvokeBody),
        },
        problems=("store_unavailable", *_KEY, *_ADMISSION, *_FAILURE),
    ),
    Route(
        method="POST",
        path="/agent/stream",
        handler=simple.stream,
        summary="Ask the default agent and read its answer as it is said.",
        tag="simple",
        body=simple.InvokeRequest,
        headers=("Idempotency-Key",),
        answers={200: Said("The answer, in lines.", simple.Line, EVENT_STREAM), 204: _NOTHING_LEFT},
        problems=("store_unavailable", *_KEY, *_ADMISSION),
    ),
    Route(
        method="POST",
        path="/agent/run",
        handler=simple.run,
        summary="Give the default agent a task; with `Prefer: wait=N` wait for it.",
        tag="simple",
        body=simple.RunBody,
        headers=("Idempotency-Key", "Prefer"),
        answers={
            200: Said("The task, ended.", simple.TaskBody),
            202: Said("The task, not ended.", simple.TaskBody, headers=("Location",)),
        },
        problems=("store_unavailable", *_KEY, *_ADMISSION),
    ),
    Route(
        method="GET",
        path="/agent/status/{task_id}",
        handler=simple.status,
        summary="A task.",
        tag="simple",
        answers={200: Said("The task.", simple.TaskBody)},
        problems=("not_found", "store_unavailable"),
    ),
)
