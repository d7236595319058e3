"""Where a task stands, in words for whoever reads a failed test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any


def describe(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """One line a task, sorted by name: what it runs and the awaits in which it is suspended."""
    lines = sorted(f"  {task.get_name()}: {where(task)}" for task in tasks)
    return "\n".join(lines) if lines else "  (no tasks)"


def where(task: asyncio.Task[Any]) -> str:
    """The chain of awaits, from the task's coroutine to the innermost that can be looked into."""
    if task.done():
        return "done"
    places = [
        f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
        for frame in _frames(task.get_coro())
    ]
    return " > ".join(places) if places else "not started"


def _frames(awaitable: Any) -> Iterator[FrameType]:
    while awaitable is not None:
        for prefix, inner in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(awaitable, f"{prefix}_frame", None)
            if frame is not None:
                yield frame
                awaitable = getattr(awaitable, inner)
                break
        else:
            return
