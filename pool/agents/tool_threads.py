"""Threads for synchronous tools that have limits: one for each call, since one may be given up.

A thread cannot be stopped. One whose call takes too long is left to itself: what it still does,
nobody waits for. It is a daemon, so that it does not keep the process alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from threading import Thread
from typing import Any


def start(function: Callable[[], Any], name: str) -> asyncio.Future[Any]:
    """Call the function in a thread of its own, with the caller's context variables; what it
    returns or raises. `SystemExit` and the like come out as `RuntimeError`.
    """
    outcome: Future[Any] = Future()
    work = (copy_context(), function, outcome)
    Thread(target=_work, args=work, name=name, daemon=True).start()
    return asyncio.wrap_future(outcome)


async def wait_until(outcome: asyncio.Future[Any], ends_at: float | None) -> bool:
    """Wait for an outcome, at most until `ends_at` on the loop's clock; whether it is there.

    Cancelled, it waits as long all the same: what comes after may rely on nothing running behind
    its back that was not given up.
    """
    clock = asyncio.get_running_loop().time
    cancelled: asyncio.CancelledError | None = None
    while not outcome.done():
        left_s = None if ends_at is None else ends_at - clock()
        if left_s is not None and left_s <= 0:
            break
        try:
            await asyncio.wait([outcome], timeout=left_s)
        except asyncio.CancelledError as error:
            cancelled = error
    if not outcome.done():
        outcome.add_done_callback(_let_go)
    if cancelled is not None:
        raise cancelled
    return outcome.done()


def _work(context: Context, function: Callable[[], Any], outcome: Future[Any]) -> None:
    try:
        result = context.run(function)
    except BaseException as error:
        # no future can carry StopIteration, and none is to end the process
        carried = isinstance(error, Exception) and not isinstance(error, StopIteration)
        ended = error if carried else RuntimeError(f"ended by {type(error).__name__}")
        outcome.set_exception(ended)
    else:
        outcome.set_result(result)


def _let_go(outcome: asyncio.Future[Any]) -> None:
    if not outcome.cancelled():
        # one that nobody looks at would be reported
        outcome.exception()
