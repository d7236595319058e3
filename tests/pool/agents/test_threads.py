"""Threads: what goes in, what comes out, and when they end."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from pool.agents.threads import Threads, WorkerThread

pytestmark = pytest.mark.real_time

tag: ContextVar[str] = ContextVar("tag", default="none")


def fail(error: BaseException) -> None:
    """Raise it."""
    raise error


async def test_context_variables_go_along():
    """The function sees the context variables of its caller."""
    thread = WorkerThread("test")
    tag.set("mine")

    assert await thread.run(tag.get) == "mine"
    thread.stop()


async def test_error_comes_out_as_it_was():
    """What the function raises is raised where it is awaited."""
    thread = WorkerThread("test")

    with pytest.raises(KeyError, match="gone"):
        await thread.run(fail, KeyError("gone"))
    thread.stop()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_what_would_end_the_process_ends_the_call(error):
    """SystemExit and its like come out as an ordinary error that names them."""
    thread = WorkerThread("worker")

    with pytest.raises(RuntimeError, match=f"worker ended by {type(error).__name__}"):
        await thread.run(fail, error)
    thread.stop()


async def test_stop_iteration_comes_out_as_an_error():
    """StopIteration, which a future cannot carry, does not hang the caller."""
    thread = WorkerThread("worker")

    with pytest.raises(RuntimeError):
        await thread.run(next, iter(()))
    thread.stop()


async def test_threads_are_used_again():
    """Calls one after the other use one thread; calls at once have one each."""
    threads = Threads("test")
    both = threading.Barrier(2)

    def ident(meet: bool) -> int:
        if meet:
            both.wait()
        return threading.get_ident()

    one, again = await threads.run(ident, False), await threads.run(ident, False)
    first, second = await asyncio.gather(threads.run(ident, True), threads.run(ident, True))
    threads.stop()

    assert one == again
    assert first != second


async def test_stopped_threads_end():
    """Stopping ends idle threads at once and the others when their call is over."""
    threads = Threads("test")
    loop, started, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def wait() -> threading.Thread:
        loop.call_soon_threadsafe(started.set)
        go_on.wait()
        return threading.current_thread()

    call = asyncio.create_task(threads.run(wait))
    await started.wait()
    threads.stop()
    go_on.set()
    thread = await call
    await asyncio.to_thread(thread.join)

    assert not thread.is_alive()


def test_loop_that_closed_meanwhile_is_survived():
    """A call that ends after its loop was closed ends its thread quietly."""
    started, go_on, seen = threading.Event(), threading.Event(), []

    def wait() -> None:
        seen.append(threading.current_thread())
        started.set()
        go_on.wait()

    thread = WorkerThread("test")
    loop = asyncio.new_event_loop()
    call = thread.run(wait)

    async def begin() -> None:
        call.send(None)

    loop.run_until_complete(begin())
    started.wait()
    loop.close()
    go_on.set()
    thread.stop()
    seen[0].join()
    call.close()

    assert not seen[0].is_alive()
