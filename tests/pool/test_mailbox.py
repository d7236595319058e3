"""An actor's inbox."""

from __future__ import annotations

import asyncio

import pytest

from pool.mailbox import Control, Mailbox
from tests.support.sweep import sweep_cancel


async def test_controls_go_before_the_turn() -> None:
    """Whatever the order of putting, a control is read first."""
    box: Mailbox[str] = Mailbox()
    box.put("turn")
    box.control(Control.STOP)
    assert repr(box) == "<Mailbox [1 controls, 1 turn]>"
    assert [await box.get(), await box.get()] == [Control.STOP, "turn"]
    assert repr(box) == "<Mailbox [0 controls, empty]>"


async def test_it_holds_one_turn() -> None:
    """A second turn is a mistake of the dispatcher's, said at once."""
    box: Mailbox[str] = Mailbox()
    box.put("turn")
    with pytest.raises(ValueError, match="holds a turn already"):
        box.put("another")


async def test_a_waiting_reader_is_woken() -> None:
    """`get` waits until something is put."""
    box: Mailbox[str] = Mailbox()
    reading = asyncio.create_task(box.get())
    await asyncio.sleep(0)
    assert not reading.done()
    box.put("turn")
    assert await reading == "turn"


async def test_a_cancelled_get_loses_nothing() -> None:
    """Cancelled at any await, the turn is either read or still there."""
    seen: dict[str, object] = {}

    async def handed_over() -> None:
        box: Mailbox[str] = Mailbox()
        seen.clear()
        seen["box"] = box
        asyncio.get_running_loop().call_soon(box.put, "turn")
        seen["got"] = await box.get()

    async def check() -> None:
        box = seen["box"]
        assert isinstance(box, Mailbox)
        await asyncio.sleep(0)
        assert ("got" in seen) != box.full

    assert await sweep_cancel(handed_over, check) == 1
