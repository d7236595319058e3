"""A connection: aiohttp's, with our own way from a request to its answer, deadlines, and our words
for what is no HTTP.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestHandler

from pool.errors import InvalidRequest
from protocol.http.reply import Answer, Reply
from protocol.http.sending import Sending

if TYPE_CHECKING:
    from protocol.http.listener import Listener

_END: Final = b"\r\n\r\n"


class Connection(Sending):
    """One client's connection.

    A head that has begun must be there within `header_timeout_s`. Requests are handled one after
    the other in the connection's own task, which is cancelled when the client leaves. (aiohttp
    makes a task and a writer for each of them and goes through the loop twice more for that.)
    """

    __slots__ = (
        "_body",
        "_head_behind",
        "_head_deadline",
        "_listener",
        "_parser_paused",
        "_waiting_bytes",
    )

    def __init__(self, listener: Listener, **options: Any) -> None:
        super().__init__(listener, listener.config.slow_reader_s, **options)
        self._listener = listener
        # of the request that is being answered
        self._body = EMPTY_PAYLOAD
        self._head_deadline: asyncio.TimerHandle | None = None
        # behind the newest request there is a part of the next one's head
        self._head_behind = False
        # the parser may be, although reading is not
        self._parser_paused = False
        # received since there were requests that wait
        self._waiting_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or turn it away when there are enough."""
        if self._listener.full:
            # not checked with isinstance: uvloop's transports are no asyncio.Transport
            refused = cast(asyncio.Transport, transport)
            refused.write(self._listener.turned_away())
            refused.close()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client, or we, ended it."""
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; time a head that is there in part only."""
        # not by super(): that alone would take 1,200 instructions
        RequestHandler.data_received(self, data)
        messages = self._messages
        if messages:
            self._waiting_bytes += len(data)
            if self._waiting_bytes > self._read_bufsize and not self._buffer_paused:
                self._pause_reading_for_buffer()
        newest = messages[-1][1] if messages else self._body
        if (
            newest is EMPTY_PAYLOAD
            and messages
            and not isinstance(messages[-1][0], RawRequestMessage)
        ):
            self._unreadable_from_here()
        waiter = self._waiter
        if waiter is None or waiter.done():
            if self._head_deadline is not None:
                self._head_arrived()
            end = data.find(_END)
            if end >= 0 and end + 4 + newest.total_bytes == len(data):
                # one request and nothing else, as usual
                self._head_behind = False
            # line ends alone begin nothing, and may be the last of what was begun before
            elif data.strip(b"\r\n"):
                self._head_behind = newest.is_eof() and not _ends(data, newest)
        elif self._head_deadline is None:
            self._head_begun()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on, if reading was paused. aiohttp says so with every body that has been read."""
        if self._reading_paused or self._parser_paused:
            # where a paused body ends, the parser is left to pause in the next one
            self._parser_paused = not resume_parser
            super().resume_reading(resume_parser)

    async def start(self) -> None:
        """Serve the client's requests. aiohttp makes the connection's task of this."""
        loop, messages = self._loop, self._messages
        while not self._force_close:
            if not messages:
                # while it is there, and not done, the connection is idle
                self._waiter = loop.create_future()
                if self._head_behind:
                    self._head_begun()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = messages.popleft()
            self._body = payload
            if self._parser is not None:
                self._parser.message_consumed()
            if not messages:
                self._waiting_bytes = 0
                if self._buffer_paused:
                    self._resume_reading_if_drained()
            try:
                self._keepalive = await self._serve(message, payload)
                if not payload.is_eof() and self.transport is not None:
                    await self._linger(payload)
            except Exception as error:
                self.log_exception("an answer could not be written", exc_info=error)
                self.force_close()
            except BaseException:
                self.force_close()
                raise
            # What follows an upgrade that was refused before its body was there is no HTTP for the
            # parser any more: nobody would read it.
            if not self._keepalive or self._close or (self._upgraded and not messages):
                break
            self._next_keepalive_close_time = idle_until = loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = loop.call_at(idle_until, self._process_keepalive)
        if not self._force_close:
            self._task_handler = None
            self.leave()

    def hand_over(self, successor: BaseProtocol, head: bytes) -> None:
        """Answer an upgrade with `head`: from then on the connection is another protocol's, with
        what came behind the request. `ConnectionError` if the client is gone already.

        Nothing is left here to keep the request, its headers or the tasks that serve it alive: they
        go when its handler returns, which is to answer `Upgraded`.
        """
        transport, manager = self.transport, self._manager
        if transport is None or manager is None or transport.is_closing():
            raise ConnectionResetError("the client left before the upgrade")
        self.send(head)
        self._head_arrived()
        self.keep_alive(False)
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        behind, self._message_tail = self._message_tail, b""
        # no end of it will be told here, and nothing more is read
        self.transport = self._parser = self._task_handler = None
        manager.connection_lost(self, None)
        transport.set_protocol(successor)
        successor.connection_made(transport)
        if self.writing_paused:
            successor.pause_writing()
        if behind:
            successor.data_received(behind)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP. `message` may repeat what was sent: it is not passed on."""
        return self._listener.unreadable(request, status, exc)

    async def _serve(self, message: Any, payload: StreamReader) -> bool:
        """Answer a request; whether the connection may be kept for another one."""
        readable = isinstance(message, RawRequestMessage)
        request = self._listener.request_of(message if readable else ERROR, payload, self)
        answer: Answer
        # aiohttp's `shutdown` looks at both
        self._request_in_progress, self._current_request = True, request
        try:
            try:
                if readable:
                    answer = await self._listener.answer(request)
                else:
                    answer = self.handle_error(request, message.status, message.exc)
            except Exception as error:
                answer = self.handle_error(request, exc=error)
            if isinstance(answer, Reply) and not self._upgraded:
                answer.write(request)
                if self._paused and not await self.drained():
                    self.cut()
                return answer.keep_alive
            # A stream that ends, an answer of aiohttp's, or an upgrade that is refused: what was
            # sent behind that is read as HTTP then.
            response = cast(web.StreamResponse, answer)
            response, lost = await self.finish_response(request, response, None)
            return bool(response.keep_alive) and not lost
        finally:
            self._request_in_progress, self._current_request = False, None
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)

    async def _linger(self, payload: StreamReader) -> None:
        """Read what is left of a body for a while, so that its sender reads the answer."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof():
                    await payload.readany()
        except (TimeoutError, InvalidRequest):
            self._keepalive = False

    def _unreadable_from_here(self) -> None:
        """Tell whoever waits for the rest of a body: the parser tells nobody."""
        messages = self._messages
        body = messages[-2][1] if len(messages) > 1 else self._body
        if not body.is_eof():
            body.set_exception(InvalidRequest("the body is not framed as HTTP says"))

    def _head_begun(self) -> None:
        self._head_deadline = self._loop.call_later(
            self._listener.config.header_timeout_s, self._head_late
        )

    def _head_arrived(self) -> None:
        deadline, self._head_deadline = self._head_deadline, None
        if deadline is not None:
            deadline.cancel()

    def _head_late(self) -> None:
        self._head_deadline = None
        self.force_close()


def _ends(data: bytes, body: StreamReader) -> bool:
    """Whether the newest request, whose body is whole, ends where `data` does."""
    # a head, chunks
    if data.endswith(_END):
        return True
    if body is EMPTY_PAYLOAD or not body._buffer:
        return False
    # what came of the body with this, and nobody has read yet
    last = body._buffer[-1]
    return data == last or data.endswith(_END + last)
