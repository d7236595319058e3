"""Sends a connection's events: all that is ready in one write, at most every `flush_s`.

An idle connection has no task and no timer here. A wake of a reader marks its session; one task
takes from all marked sessions what their windows let through. A socket that does not read holds up
this task alone: its events stay in the log, and their deltas are joined when it reads again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Final

import structlog

from pool.events import Event
from protocol.ws import frames
from protocol.ws.socket import Socket
from protocol.ws.subscription import Subscription

_log = structlog.get_logger("protocol.ws")

# Bytes after which a write is not made larger.
_BATCH_BYTES: Final = 256 * 1024


class Sender:
    """The subscriptions of one connection, and the one task that sends for them.

    `failed(subscription, error)` is called when a session cannot be read (it is unsubscribed then),
    `passed(event)` when a terminal event is sent. `stalled` has this sender while its peer may not
    keep up; its owner calls `check` from time to time.
    """

    __slots__ = (
        "_context",
        "_dirty",
        "_failed",
        "_flush_s",
        "_loop",
        "_next_at",
        "_passed",
        "_socket",
        "_stalled",
        "_subscriptions",
        "_task",
        "_timer",
        "_waiting",
    )

    def __init__(
        self,
        socket: Socket,
        *,
        flush_s: float,
        stalled: set[Sender],
        failed: Callable[[Subscription, Exception], None],
        passed: Callable[[Event], None],
    ) -> None:
        self._socket = socket
        self._flush_s = flush_s
        self._stalled = stalled
        self._failed = failed
        self._passed = passed
        self._loop = asyncio.get_running_loop()
        # A wake comes from within the turn that said something: what is started then is not that
        # turn's, and must not end with it.
        self._context = copy_context()
        self._subscriptions: dict[str, Subscription] = {}
        # sessions with something to send, in the order in which they got it
        self._dirty: dict[Subscription, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        # the socket has to take what was written before there is more
        self._waiting = False

    def __len__(self) -> int:
        return len(self._subscriptions)

    @property
    def idle(self) -> bool:
        """Whether nothing is ready to be sent."""
        return self._timer is None and self._task is None

    def get(self, session_id: str) -> Subscription | None:
        """The subscription of a session, if there is one."""
        return self._subscriptions.get(session_id)

    def add(self, subscription: Subscription) -> None:
        """Send for this one, too; one of the same session is replaced."""
        self.remove(subscription.session_id)
        self._subscriptions[subscription.session_id] = subscription

    def remove(self, session_id: str) -> None:
        """Send no more events of the session; nothing happens if there is no subscription."""
        subscription = self._subscriptions.pop(session_id, None)
        if subscription is not None:
            subscription.close()
            self._dirty.pop(subscription, None)

    def mark(self, subscription: Subscription) -> None:
        """The subscription has something to send."""
        self._dirty[subscription] = None
        if self.idle:
            self._schedule()

    def check(self) -> None:
        """Close a peer that has fallen too far behind; forget it if it has caught up."""
        subscriptions = self._subscriptions.values()
        if any(subscription.too_far_behind() for subscription in subscriptions):
            self._socket.close(frames.TOO_SLOW, "too far behind; resume from your cursor")
        if not self._waiting and not any(subscription.stuck for subscription in subscriptions):
            self._stalled.discard(self)

    async def flush(self) -> None:
        """Send all that is ready now; what waits for an acknowledgement stays."""
        while not self.idle:
            if self._timer is not None:
                self._timer.cancel()
                self._start()
            if self._task is not None:
                await asyncio.wait([self._task])

    def close(self) -> None:
        """Stop sending and reading."""
        if self._task is not None:
            self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stalled.discard(self)
        for subscription in self._subscriptions.values():
            subscription.close()
        self._subscriptions.clear()
        self._dirty.clear()

    def _schedule(self) -> None:
        pause_s = self._next_at - self._loop.time()
        if pause_s > 0:
            self._timer = self._loop.call_later(pause_s, self._start, context=self._context)
        else:
            self._start()

    def _start(self) -> None:
        self._timer = None
        self._task = self._loop.create_task(self._flush(), context=self._context)

    async def _flush(self) -> None:
        try:
            while await self._send_marked():
                pass
        except ConnectionError:
            # the peer is gone; the connection's own loop finds out, too
            self._dirty.clear()
        except Exception:
            _log.exception("events could not be sent")
            self._socket.close(frames.INTERNAL, "the server failed; resume from your cursor")
            self._dirty.clear()
        finally:
            self._task = None
        self._next_at = self._loop.time() + self._flush_s
        if self._dirty:
            self._schedule()

    async def _send_marked(self) -> bool:
        """Send what the marked sessions have; True if there is more at once."""
        await self._drained()
        marked, self._dirty = self._dirty, {}
        ready: list[tuple[Subscription, Sequence[Event]]] = []
        more = False
        for subscription in marked:
            events = await self._next(subscription)
            # if nothing is ready, more of it waits for an acknowledgement or its turn's answer
            if self._has_more(subscription) and events:
                self._dirty[subscription] = None
                more = True
            ready.append((subscription, events))
        await self._send(ready)
        return more and not self._socket.closing

    async def _send(self, ready: Sequence[tuple[Subscription, Sequence[Event]]]) -> None:
        batch: list[bytes] = []
        size = 0
        for subscription, events in ready:
            for event in events:
                # unsubscribed meanwhile: after the answer to that, nothing comes
                if subscription.closed:
                    break
                frame = frames.event(event)
                batch.append(frame)
                size += len(frame)
                if event.terminal:
                    self._passed(event)
                if size > _BATCH_BYTES:
                    self._socket.write(b"".join(batch))
                    batch.clear()
                    size = 0
                    await self._drained()
        if batch:
            self._socket.write(b"".join(batch))

    async def _next(self, subscription: Subscription) -> Sequence[Event]:
        if subscription.closed:
            return ()
        try:
            return await subscription.next()
        except Exception as error:
            self.remove(subscription.session_id)
            self._failed(subscription, error)
            return ()

    def _has_more(self, subscription: Subscription) -> bool:
        if subscription.stuck:
            self._stalled.add(self)
            return False
        return not subscription.closed and subscription.behind > 0

    async def _drained(self) -> None:
        self._waiting = True
        self._stalled.add(self)
        try:
            await self._socket.drain()
        finally:
            self._waiting = False
