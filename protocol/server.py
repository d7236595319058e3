"""The server: listens, dispatches requests to their handlers, and leaves in good order."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from itertools import count
from random import Random
from time import monotonic

import msgspec
import structlog
from aiohttp import web

from pool.errors import Forbidden, Internal, InvalidRequest, Overloaded, PoolError
from pool.pool import AgentPool
from protocol import decode, openapi, problems
from protocol.authenticate.authenticator import Authenticator
from protocol.authenticate.config import AuthConfig
from protocol.config import ServerConfig
from protocol.http import reply
from protocol.http.body import read_body
from protocol.http.listener import Listener
from protocol.http.reply import Answer, Headers, Reply
from protocol.http.request import AmbiguousHead, Request, check_head
from protocol.http.streams import Bell, StreamCut
from protocol.origins import Origins, check_reach
from protocol.problems import MethodNotAllowed, Unauthenticated
from protocol.proxies import Proxies
from protocol.refusals import TurnedAway, forbidden, note_stranger
from protocol.route import PlainHandler, extra_route
from protocol.router import Entry, Router
from protocol.routes import ROUTES
from protocol.ws.config import WsConfig
from protocol.ws.connections import Connections
from protocol.ws.tickets import Tickets

__all__ = ["Server", "ServerConfig"]

_log = structlog.get_logger("protocol.server")

# How soon clients that are sent away may try another server.
_RECONNECT_AFTER_S = 1.0
# RFC 6750, 3: what a 401 asks for.
_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="actorpool"')
# Asks by itself who is there: a ticket comes after the handshake.
_SOCKETS = "/v1/ws"


class Server:
    """Serves a pool over HTTP. The pool is the caller's: open it before, close it after.

    `auth` says who may call. `extra_routes`, (method, path) to an async handler of the request, are
    served and described like the server's own; they are for operators, unless `auth` makes their
    path public. `random` is the source of jitter. `ConfigError` for an `auth` that cannot be.
    """

    def __init__(
        self,
        pool: AgentPool,
        *,
        config: ServerConfig = ServerConfig(),  # noqa: B008 - frozen
        ws: WsConfig = WsConfig(),  # noqa: B008
        auth: AuthConfig = AuthConfig(),  # noqa: B008
        extra_routes: Mapping[tuple[str, str], PlainHandler] | None = None,
        random: Random | None = None,
    ) -> None:
        self.pool = pool
        self.config = config
        extra = (extra_routes or {}).items()
        self.routes = (*ROUTES, *(extra_route(*place, handler) for place, handler in extra))
        # the OpenAPI document, as JSON
        self.document = msgspec.json.encode(openapi.document(self.routes))
        random = random or Random()
        self.random = random.random
        self.connections = Connections(ws, quota=pool.ledger.connections, random=random)
        self.tickets = Tickets(pool.store)
        self.authenticator = Authenticator(auth, pool.store)
        self.proxies = Proxies(config.trusted_proxies)
        self.origins = Origins(config, open_=auth.open, proxies=self.proxies)
        self.draining = False
        # of every stream that is being written
        self.bells: set[Bell] = set()
        self._public = {*auth.public, _SOCKETS}
        self._turned_away_callers = TurnedAway(monotonic)
        self._router = Router(self.routes)
        self._prefix = secrets.token_hex(6)
        self._count = count(1)
        self._listener: Listener | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None

    def __repr__(self) -> str:
        return f"<Server {self.url if self._site else 'closed'} [{len(self.bells)} streams]>"

    async def start(self) -> None:
        """Listen. `OSError` if the address cannot be had; `ConfigError` if others could reach it
        and nobody is asked who they are.
        """
        check_reach(self.config, open_=self.authenticator.config.open)
        listener = Listener(
            self.config,
            on_request=self._handle,
            on_unreadable=self._unreadable,
            on_full=self._turned_away,
            upgraded=lambda: self.connections.sockets,
            request_id=self.new_request_id,
        )
        await self.authenticator.start()
        runner = web.ServerRunner(listener, shutdown_timeout=self.config.close_timeout_s)
        await runner.setup()
        site = web.TCPSite(runner, self.config.host, self.config.port, backlog=self.config.backlog)
        try:
            await site.start()
        except BaseException:
            await runner.cleanup()
            await self.authenticator.stop()
            raise
        self._listener, self._runner, self._site = listener, runner, site

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._site is None:
            raise RuntimeError("the server does not listen; start it first")
        return self._site.port

    @property
    def url(self) -> str:
        """Where it listens."""
        host = self.config.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections clients have open, WebSockets among them."""
        return self._listener.open if self._listener is not None else 0

    async def drain(self, deadline_s: float) -> None:
        """Take no more turns, let those that run end within `deadline_s`, then close."""
        self.draining = True
        self.connections.goodbye("draining", _RECONNECT_AFTER_S)
        await self.pool.drain(deadline_s=deadline_s)
        await self.close()

    async def close(self) -> None:
        """Stop listening and end every connection. May be called twice."""
        self.draining = True
        runner, self._runner, self._site = self._runner, None, None
        if runner is None:
            return
        for bell in tuple(self.bells):
            bell.stop()
        await self.connections.close()
        await runner.cleanup()
        # those that came while the others went
        await self.connections.close()
        await self.authenticator.stop()

    def new_request_id(self) -> str:
        """An id for a request that brought none."""
        return f"{self._prefix}-{next(self._count):x}"

    async def _handle(self, request: Request) -> Answer:
        """Answer a request, whatever it is."""
        request.origin_headers = self.origins.headers(request)
        try:
            return await self._dispatch(request)
        except PoolError as error:
            return self._refusal(request, error)
        except StreamCut as cut:
            return cut.reply
        except Exception as error:
            return self._defect(request, error)

    async def _dispatch(self, request: Request) -> Answer:
        check_head(request)
        self.origins.check(request)
        method = request.method
        if method == "OPTIONS":
            preflight = self.origins.preflight(request)
            if preflight is not None:
                return Reply(204, headers=preflight)
        entry, request.params = self._router.find(method, request.rel_url.raw_path)
        route = entry.route
        if route.path in self._public:
            return await self._answer(request, entry)
        caller = request.caller = await self.authenticator.caller(request)
        request.principal = caller.principal
        if route.role not in caller.principal.roles:
            raise forbidden(
                self.pool.audit, request, route.path, f"this takes the role {route.role}"
            )
        live = self.authenticator.live
        live.add(caller, request)
        try:
            return await self._answer(request, entry)
        finally:
            live.remove(request)

    async def _answer(self, request: Request, entry: Entry) -> Answer:
        route = entry.route
        if route.query is not None:
            request.options = decode.query(route.query, request.query)
        elif request.rel_url.query_string:
            raise InvalidRequest("this path takes no query parameters")
        if entry.decoder is not None:
            data = await read_body(request, self.config)
            if not data and not route.body_required:
                data = b"{}"
            request.body = decode.body(entry.decoder, data)
        if route.counts and self.pool.ledger.rated:
            request.rated = self.pool.ledger.request(request.principal)
        return await route.handler(self, request)

    def _refusal(self, request: Request, error: PoolError) -> Reply:
        headers: Headers = ()
        if isinstance(error, MethodNotAllowed):
            headers = (("Allow", ", ".join(error.allow)),)
        elif isinstance(error, Unauthenticated | Forbidden):
            client = self.proxies.client(request)
            self._turned_away_callers.tell(error, client=client, request_id=request.request_id)
            if isinstance(error, Unauthenticated):
                headers = (_CHALLENGE,)
                note_stranger(self.pool.audit, error, client, request.request_id)
        said = problems.problem_of(error, request_id=request.request_id)
        # what is left of a body that nobody read must not be taken for the next request
        close = isinstance(error, AmbiguousHead) or not request.content.is_eof()
        return reply.problem(said, self.random, headers=headers, close=close)

    def _defect(self, request: Request, error: Exception) -> Reply:
        _log.error(
            "request failed", request_id=request.request_id, method=request.method, exc_info=error
        )
        said = problems.problem_of(error, request_id=request.request_id)
        return reply.problem(said, self.random, close=True)

    def _unreadable(self, request: Request, error: BaseException | None) -> Reply:
        """The answer to what is no HTTP (None), or to an error that came out of aiohttp itself."""
        request_id = request.request_id
        if error is not None:
            _log.error("request failed in the HTTP library", request_id=request_id, exc_info=error)
            said = problems.problem_of(Internal("the server failed"), request_id=request_id)
        else:
            refused = InvalidRequest("this is no HTTP request; the connection ends here")
            said = problems.problem_of(refused, request_id=request_id)
        return reply.problem(said, self.random, close=True)

    def _turned_away(self) -> bytes:
        """All of an answer to a connection that is one too many."""
        error = Overloaded("the server has as many connections as it may have; try again later")
        said = problems.problem_of(error, request_id=self.new_request_id())
        refusal = reply.problem(said, self.random, close=True)
        return refusal.raw(said.request_id, keep_alive=False)
