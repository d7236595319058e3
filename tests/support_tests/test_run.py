"""What a test leaves behind fails it."""

from __future__ import annotations

import asyncio
import time
import warnings
from itertools import count
from typing import Any

import pytest
import uvloop

from tests.support import SeedFailed, UncleanTest, VirtualLoop, run_clean, run_seeds
from tests.support.run import TooSlow, broken_off_after


async def _forever() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise ValueError("unseen")


def test_a_leftover_task_fails_by_name() -> None:
    """A task that still runs after the test is named, and cancelled."""
    tasks = []

    async def leave() -> None:
        tasks.append(asyncio.create_task(_forever(), name="the forgotten one"))
        await asyncio.sleep(0)

    with pytest.raises(UncleanTest, match=r"the forgotten one: .*_forever"):
        run_clean(VirtualLoop(), leave())
    assert tasks[0].cancelled()


def test_a_task_that_ignores_its_cancellation_is_given_up() -> None:
    """A leftover that does not end when cancelled does not hang the run."""

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                continue

    async def leave() -> None:
        task = asyncio.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        assert not task.done()

    with pytest.raises(UncleanTest, match="stubborn"):
        run_clean(VirtualLoop(), leave())


def test_an_exception_never_retrieved_fails() -> None:
    """A task that failed and that nobody looked at fails the test, cycles or not."""

    async def leave() -> None:
        task = asyncio.create_task(_fail())
        await asyncio.wait([task])

    with pytest.raises(UncleanTest, match=r"never retrieved.*unseen"):
        run_clean(VirtualLoop(), leave())


def test_an_exception_in_a_callback_fails() -> None:
    """What a callback raises fails the test."""

    async def leave() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(UncleanTest, match="ZeroDivisionError"):
        run_clean(VirtualLoop(), leave())


def test_a_coroutine_never_awaited_fails() -> None:
    """A forgotten `await` fails the test."""

    async def leave() -> None:
        _forever()  # type: ignore[unused-coroutine]

    with pytest.raises(UncleanTest, match="_forever' was never awaited"):
        run_clean(VirtualLoop(), leave())


def test_other_warnings_pass_through() -> None:
    """A warning that is no forgotten `await` reaches whoever watches for it."""

    async def warn() -> None:
        warnings.warn("mind the step", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="mind the step"):
        run_clean(VirtualLoop(), warn())


def test_a_failed_test_keeps_its_own_error() -> None:
    """The error of a test comes first; what it left is noted on it."""

    async def leave_and_fail() -> None:
        task = asyncio.create_task(_forever(), name="left too")
        await asyncio.sleep(0)
        assert not task.done()
        raise ValueError("first")

    with pytest.raises(ValueError, match="first") as caught:
        run_clean(VirtualLoop(), leave_and_fail())
    assert "left too" in caught.value.__notes__[0]


def test_the_result_is_handed_back() -> None:
    """What the coroutine returns is returned."""

    async def answer() -> int:
        return 42

    assert run_clean(VirtualLoop(), answer()) == 42


@pytest.mark.parametrize("make", [VirtualLoop, uvloop.new_event_loop])
def test_a_cap_ends_a_slow_test(make: Any) -> None:
    """Past its cap a test is cancelled, and the error says where it stood."""
    with pytest.raises(TooSlow, match=r"longer than 0\.05 s:\n  the test: _forever"):
        run_clean(make(), _forever(), cap_s=0.05)


def test_a_scenario_that_spins_is_broken_off() -> None:
    """A seed under which tasks go round and round in no time fails, and is named."""

    async def spin() -> None:
        for _ in count():
            await asyncio.sleep(0)

    with pytest.raises(SeedFailed, match=r"failed with seed 3: TooSlow"):
        run_seeds(spin, [3], cap_s=0.1)


@pytest.mark.parametrize("make", [VirtualLoop, uvloop.new_event_loop])
def test_a_test_that_blocks_the_loop_is_broken_off(make: Any) -> None:
    """What cannot be cancelled, because it never pauses, fails all the same."""

    async def block() -> None:
        time.sleep(5)  # noqa: ASYNC251 - blocking is the point

    with pytest.raises(TooSlow), broken_off_after(0.1):
        run_clean(make(), block())


@pytest.mark.real_time(5)
async def test_real_time_runs_on_uvloop() -> None:
    """A test marked `real_time` gets uvloop, with its real clock."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uvloop.Loop)
    before = loop.time()
    await asyncio.sleep(0.01)
    assert 0.005 < loop.time() - before < 5


async def test_the_default_is_virtual_time() -> None:
    """An unmarked test gets a virtual loop."""
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
