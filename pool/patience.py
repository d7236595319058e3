"""Waiting for a store that cannot be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

from pool.errors import LeaseLost, StoreUnavailable

T = TypeVar("T")

# Between two tries, in seconds: doubled from the first to the last.
_FIRST_S, _LAST_S = 0.05, 1.0


async def patiently(call: Callable[[], Awaitable[T]], random: Random) -> T:
    """What the call answers, once the store can be reached. `LeaseLost` is an answer."""
    wait_s = _FIRST_S
    while True:
        try:
            return await call()
        except LeaseLost:
            raise
        except StoreUnavailable:
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(_LAST_S, wait_s * 2)
