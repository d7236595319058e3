"""The simple door: what clients of the usual tutorial services expect, over the very same turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from pool.asking import Acceptance
from pool.errors import InvalidRequest
from pool.events import Event, TextDelta, ToolCalled, TurnEnded, TurnStarted
from pool.turn import Id, State, Turn, TurnError, TurnRequest
from protocol.http.rates import accept, stream_place
from protocol.http.reply import Answer, json, problem
from protocol.http.turns import preferences_of, stream_accepted, wait
from protocol.problems import Problem, problem_of_turn

if TYPE_CHECKING:
    from protocol.http.request import Request
    from protocol.server import Server

Text = Annotated[str, Meta(min_length=1)]


class InvokeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A message to the default agent; `thread_id` is the session (default: a new one)."""

    message: Text
    thread_id: Id | None = None


class RunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A task for the default agent: `message` or `prompt`, not both."""

    message: Text | UnsetType = UNSET
    prompt: Text | UnsetType = UNSET
    user_id: Annotated[str, Meta(max_length=256)] | None = None
    session_id: Id | None = None


_EITHER: Final = {"oneOf": [{"required": ["message"]}, {"required": ["prompt"]}]}
RunBody = Annotated[RunRequest, Meta(extra_json_schema=_EITHER)]


class CalledTool(Struct, frozen=True):
    """A tool that the agent called."""

    call_id: str
    name: str
    arguments: dict[str, Any]


class InvokeBody(Struct, frozen=True):
    """The agent's answer."""

    response: str
    thread_id: str
    tool_calls: list[CalledTool]


class TaskBody(Struct, frozen=True, kw_only=True):
    """A task: its turn's id and state; `result` once it has one, `error` if it failed."""

    task_id: str
    status: State
    result: str | UnsetType = UNSET
    error: TurnError | UnsetType = UNSET


class ContentLine(Struct, frozen=True, tag_field="type", tag="content"):
    """A piece of the answer."""

    content: str


class DoneLine(Struct, frozen=True, tag_field="type", tag="done"):
    """The answer is complete."""

    thread_id: str


class ErrorLine(Struct, frozen=True, tag_field="type", tag="error"):
    """There is no answer, and why."""

    error: Problem


Line = ContentLine | DoneLine | ErrorLine


async def invoke(server: Server, request: Request) -> Answer:
    """`POST /agent/invoke`"""
    asked: InvokeRequest = request.body
    accepted = await _accept(server, request, asked.message, asked.thread_id)
    turn = await wait(server, request, accepted, None)
    said = problem_of_turn(turn, request_id=request.request_id)
    if said is not None:
        return problem(said, server.random)
    calls = await _tool_calls(server, request, turn)
    body = InvokeBody(turn.output, turn.session_id, calls)
    return json(200 if turn.ended else 202, msgspec.json.encode(body))


async def stream(server: Server, request: Request) -> Answer:
    """`POST /agent/stream`"""
    asked: InvokeRequest = request.body
    with stream_place(server, request):
        accepted = await _accept(server, request, asked.message, asked.thread_id)
        return await stream_accepted(server, request, accepted, _lines(request.request_id))


async def run(server: Server, request: Request) -> Answer:
    """`POST /agent/run`"""
    asked: RunRequest = request.body
    text = asked.message if asked.prompt is UNSET else asked.prompt
    if text is UNSET or UNSET not in (asked.message, asked.prompt):
        raise InvalidRequest("give either message or prompt", field="message")
    metadata = {} if asked.user_id is None else {"user_id": asked.user_id}
    accepted = await _accept(server, request, text, asked.session_id, metadata)
    preferred = preferences_of(request)
    turn = await wait(server, request, accepted, preferred.wait_s or 0)
    if turn.ended and preferred.wait_s:
        return json(200, msgspec.json.encode(_task(turn)), preferred.headers)
    body = TaskBody(task_id=turn.id, status=turn.state)
    location = ("Location", f"/agent/status/{turn.id}")
    return json(202, msgspec.json.encode(body), (*preferred.headers, location))


async def status(server: Server, request: Request) -> Answer:
    """`GET /agent/status/{task_id}`"""
    turn = await server.pool.wait(
        request.params["task_id"], timeout_s=0, principal=request.principal
    )
    return json(200, msgspec.json.encode(_task(turn)))


async def _accept(
    server: Server,
    request: Request,
    text: str,
    session: str | None,
    metadata: dict[str, Any] | None = None,
) -> Acceptance:
    asked = TurnRequest(input=text, metadata=metadata or {})
    return await accept(server, request, asked, session)


async def _tool_calls(server: Server, request: Request, turn: Turn) -> list[CalledTool]:
    """The tools that the turn's last attempt called."""
    calls: list[CalledTool] = []
    reader = await server.pool.watch_turn(turn.id, principal=request.principal)
    try:
        while not reader.ended and (events := await reader.take()):
            for event in events:
                if isinstance(event, TurnStarted):
                    calls.clear()
                elif isinstance(event, ToolCalled):
                    calls.append(CalledTool(event.call_id, event.name, event.arguments))
    finally:
        reader.close()
    return calls


def _task(turn: Turn) -> TaskBody:
    answered = turn.ended and turn.state not in ("failed", "expired")
    return TaskBody(
        task_id=turn.id,
        status=turn.state,
        result=turn.output if answered else UNSET,
        error=UNSET if turn.error is None else turn.error,
    )


def _lines(request_id: str) -> Callable[[Event], bytes]:
    """Encodes a turn's events as the simple door's lines; most of them are none."""

    def encode(event: Event) -> bytes:
        line: Line
        if isinstance(event, TextDelta):
            line = ContentLine(event.text)
        elif isinstance(event, TurnEnded):
            said = problem_of_turn(event.turn, request_id=request_id)
            line = DoneLine(event.turn.session_id) if said is None else ErrorLine(said)
        else:
            return b""
        return b"data: %b\n\n" % msgspec.json.encode(line)

    return encode
