"""The client: everything a caller can ask of a server over HTTP, and the door to `Chat`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from random import Random
from types import TracebackType
from typing import Any, Final, Literal, Self, Unpack
from urllib.parse import quote

from pool.stats import PoolStats
from protocol.client.chat import Chat
from protocol.client.errors import ProblemError
from protocol.client.events import ClientEvent
from protocol.client.http import Call, Http, read
from protocol.client.models import (
    AgentInfo,
    AgentList,
    ClientSession,
    ClientTurn,
    MessagePage,
    ProblemBody,
    Readiness,
    SessionPage,
)
from protocol.client.requests import TurnOptions, given, new_key, new_session, turn_body
from protocol.client.stream import follow

# How long the server is asked to wait with its answer. A wait that pauses for an approval is only
# noticed when it is over.
_WAIT_S: Final = 20

_FAILED: Final = {"failed": ("agent_failed", 502), "expired": ("deadline_exceeded", 504)}


class Client:
    """A server's pool, from far away.

        async with Client("http://127.0.0.1:8080", api_key=key) as client:
            turn = await client.ask("hi", session="s1")

    `timeout_s`: for connecting, and for the beginning of an answer beyond what was asked to wait.
    `retry_for_s`: for how long a call that may be repeated is tried again after a broken connection
    or a refusal that says when to come back. Every turn goes with an idempotency key: a submit
    whose answer was lost is sent again, and runs once.

    All methods raise `ProblemError`, `ConnectionLost` and `ProtocolViolation`.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        retry_for_s: float = 30.0,
        random: Random | None = None,
    ) -> None:
        self._random = random if random is not None else Random()
        self._http = Http(
            url, api_key=api_key, timeout_s=timeout_s, retry_for_s=retry_for_s, random=self._random
        )

    def __repr__(self) -> str:
        return f"<Client {self._http.url}>"

    async def __aenter__(self) -> Self:
        await self._http.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.close()

    # --- turns

    async def ask(
        self,
        text: str,
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> ClientTurn:
        """Ask and wait: the turn when it completed, was cancelled or interrupted, or waits for an
        approval. `ProblemError`, with the turn, if it failed or expired."""
        headers = {"Prefer": f"wait={_WAIT_S}"}
        call = _submit(text, session, idempotency_key, options, headers)
        turn = await self._turn(call._replace(wait_s=_WAIT_S))
        if not turn.ended and turn.state != "waiting":
            turn = await self.wait(turn.id)
        return _answered(turn)

    async def submit(
        self,
        text: str,
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> ClientTurn:
        """Have a turn accepted; see `wait`, `events` and `cancel`."""
        headers = {"Prefer": "respond-async"}
        return await self._turn(_submit(text, session, idempotency_key, options, headers))

    async def stream(
        self,
        text: str,
        *,
        session: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> AsyncGenerator[ClientEvent, None]:
        """Ask and watch: the turn's events to its terminal one. A broken connection is resumed."""
        headers = {"Accept": "text/event-stream"}
        call = _submit(text, session, idempotency_key, options, headers)
        async for event in follow(self._http, call):
            yield event

    async def events(
        self, turn_id: str, *, after: str | None = None
    ) -> AsyncGenerator[ClientEvent, None]:
        """A turn's events from its first, or after a cursor, to its terminal one; as `stream`."""
        params = {} if after is None else {"after": after}
        call = Call("GET", f"/v1/turns/{turn_id}/events", params=params)
        async for event in follow(self._http, call):
            yield event

    async def wait(self, turn_id: str) -> ClientTurn:
        """The turn when it has ended, however, or waits for an approval."""
        while True:
            turn = await self.turn(turn_id, wait_s=_WAIT_S)
            if turn.ended or turn.state == "waiting":
                return turn

    async def turn(self, turn_id: str, *, wait_s: float = 0) -> ClientTurn:
        """The turn when it has ended, or as it is after `wait_s` seconds (at most 60)."""
        params = {"wait_s": f"{wait_s:g}"} if wait_s else {}
        return await self._turn(Call("GET", f"/v1/turns/{turn_id}", params=params, wait_s=wait_s))

    async def cancel(self, turn_id: str) -> ClientTurn:
        """Cancel a turn: as it is when it has ended, or is still stopping."""
        return await self._turn(Call("POST", f"/v1/turns/{turn_id}/cancel"))

    async def approve(
        self,
        turn_id: str,
        call_id: str,
        *,
        reason: str = "",
        arguments: dict[str, Any] | None = None,
    ) -> ClientTurn:
        """Allow a tool call that waits; with `arguments`, only if these are what is waiting."""
        return await self._decide(turn_id, call_id, "approve", reason, arguments)

    async def deny(self, turn_id: str, call_id: str, *, reason: str = "") -> ClientTurn:
        """Refuse a tool call that waits."""
        return await self._decide(turn_id, call_id, "deny", reason, None)

    # --- sessions

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        agent: str | None = None,
        metadata: dict[str, Any] | None = None,
        ttl_s: float | None = None,
    ) -> ClientSession:
        """Make a session. Without an id it gets one that cannot be guessed."""
        sid = session_id if session_id is not None else new_session()
        body = given(session_id=sid, agent=agent, metadata=metadata, ttl_s=ttl_s)
        # An id of ours exists only if an earlier try made it.
        call = Call("POST", "/v1/sessions", body, repeatable=session_id is None)
        try:
            return read(ClientSession, (await self._http.call(call)).body)
        except ProblemError as error:
            if session_id is None and error.code == "conflict":
                return await self.session(sid)
            raise

    async def session(self, session_id: str) -> ClientSession:
        """A session."""
        answer = await self._http.call(Call("GET", f"/v1/sessions/{session_id}"))
        return read(ClientSession, answer.body)

    async def sessions(self, *, limit: int = 100, cursor: str | None = None) -> SessionPage:
        """A page of the caller's sessions, in the order of their making."""
        call = Call("GET", "/v1/sessions", params=_page(limit, cursor))
        return read(SessionPage, (await self._http.call(call)).body)

    async def delete_session(self, session_id: str) -> None:
        """Forget a session with all its turns."""
        await self._http.call(Call("DELETE", f"/v1/sessions/{session_id}", repeatable=False))

    async def fork_session(
        self, session_id: str, new_id: str | None = None, *, through_turn: str | None = None
    ) -> ClientSession:
        """A new session with this one's transcript, up to and with a turn (None: all of it)."""
        body = given(session_id=new_id, through_turn=through_turn)
        call = Call("POST", f"/v1/sessions/{session_id}/fork", body, repeatable=False)
        return read(ClientSession, (await self._http.call(call)).body)

    async def messages(
        self, session_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> MessagePage:
        """A page of a session's transcript, oldest first."""
        call = Call("GET", f"/v1/sessions/{session_id}/messages", params=_page(limit, cursor))
        return read(MessagePage, (await self._http.call(call)).body)

    def chat(self, sessions: Mapping[str, str | None] | None = None) -> Chat:
        """A conversation over one WebSocket, in any number of sessions; use it in `async with`.

        `sessions`: those to read from the beginning, each after a cursor (None: from now on).
        """
        return Chat(self._http, sessions or {})

    # --- the server

    async def agents(self) -> tuple[AgentInfo, ...]:
        """The agents that can be asked."""
        answer = await self._http.call(Call("GET", "/v1/agents"))
        return read(AgentList, answer.body).agents

    async def pool(self) -> PoolStats:
        """The live state of every agent."""
        return read(PoolStats, (await self._http.call(Call("GET", "/v1/pool"))).body)

    async def health(self) -> bool:
        """Whether the server's process answers."""
        return (await self._http.call(Call("GET", "/health"))).status == 200

    async def ready(self) -> Readiness:
        """Whether the server may take traffic, and what it depends on. Asked once, not retried."""
        return read(Readiness, (await self._http.call(Call("GET", "/ready", report=True))).body)

    # --- how

    async def _turn(self, call: Call) -> ClientTurn:
        return read(ClientTurn, (await self._http.call(call)).body)

    async def _decide(
        self,
        turn_id: str,
        call_id: str,
        decision: Literal["approve", "deny"],
        reason: str,
        arguments: dict[str, Any] | None,
    ) -> ClientTurn:
        body = given(decision=decision, reason=reason or None, arguments=arguments)
        path = f"/v1/turns/{turn_id}/approvals/{quote(call_id, safe='')}"
        return await self._turn(Call("POST", path, body, headers={"Idempotency-Key": new_key()}))


def _submit(
    text: str,
    session: str | None,
    idempotency_key: str | None,
    options: TurnOptions,
    headers: dict[str, str],
) -> Call:
    session = session if session is not None else new_session()
    key = idempotency_key if idempotency_key is not None else new_key()
    headers = {**headers, "Idempotency-Key": key}
    return Call("POST", f"/v1/sessions/{session}/turns", turn_body(text, options), headers=headers)


def _answered(turn: ClientTurn) -> ClientTurn:
    if turn.state not in _FAILED:
        return turn
    code, status = _FAILED[turn.state]
    error = turn.error
    problem = ProblemBody(
        code=error.code if error else code,
        status=status,
        detail=error.detail if error else f"the turn {turn.state}",
        retryable=error.retryable if error else turn.state == "expired",
        turn_id=turn.id,
    )
    raise ProblemError(problem, turn)


def _page(limit: int, cursor: str | None) -> dict[str, str]:
    return given(limit=str(limit), cursor=cursor)
