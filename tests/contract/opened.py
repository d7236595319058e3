"""What a store has to bring to this suite: a way to open an empty one, and to let time pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from pool.store.base import Store


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Opened(NamedTuple):
    """An open, empty store, and a way to let time pass for it (in seconds).

    While time passes whoever has joined is kept alive, and nobody else is. The tests count time in
    `store.lease_s`, and let at most a few of them pass: a store whose time is real has short ones.
    """

    store: Store
    pass_time: Callable[[float], Awaitable[None]]


Opening = Callable[[], AbstractAsyncContextManager[Opened]]
