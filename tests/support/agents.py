"""Agents that wait to be let go, fail, hang, leak; and a pool on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pool import AgentPool, PoolConfig
from pool.agent import Context, TurnEnd, TurnInput
from pool.events import Event
from pool.guard.answers_stores import AnswerStore
from pool.guard.audit import Audit
from pool.guard.ledger import CostConfig
from pool.guard.privacy import Privacy
from pool.guard.rates import Windows
from pool.guard.screen import Screen
from pool.guard.tool_rules import ToolRules
from pool.observer import Notice, Observer
from pool.store.base import Store
from pool.store.memory import MemoryStore

N = TypeVar("N", bound=Notice)

# What the time of day is when a loop's time is 0, in seconds since the epoch.
EPOCH_S = 1_800_000_000.0
# On the loop's clock: a test that takes longer waits for something that never comes.
CAP_S = 20_000.0

Run = Callable[[TurnInput, Context], Awaitable[TurnEnd]]


def wall() -> float:
    """The time of day that goes by the running loop's clock."""
    return EPOCH_S + asyncio.get_running_loop().time()


@asynccontextmanager
async def pooled(
    agents: Any,
    *,
    store: Store | None = None,
    observers: Iterable[Observer] = (),
    name: str | None = None,
    audit: Audit | None = None,
    cost: CostConfig | None = None,
    windows: Windows | None = None,
    answers: AnswerStore | None = None,
    screen: Screen | None = None,
    privacy: Privacy | None = None,
    tools: ToolRules | None = None,
    **config: Any,
) -> AsyncIterator[AgentPool]:
    """An open pool whose times of day follow the loop's clock; by default no watchdog."""
    pool = AgentPool(
        agents,
        config=PoolConfig(**{"watchdog_s": 0.0, **config}),
        store=store or MemoryStore(clock=wall),
        observers=observers,
        name=name,
        seed=1,
        audit=audit,
        cost=cost,
        windows=windows,
        answers=answers,
        screen=screen,
        privacy=privacy,
        tools=tools,
        wall=wall,
    )
    async with asyncio.timeout(CAP_S), pool:
        yield pool


async def ticks(count: int = 10) -> None:
    """Let everything that is ready run; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


class Held:
    """An agent whose turns wait until they are let go, by their input. Knows who runs.

    A turn answers `done: <input>`.
    """

    def __init__(self) -> None:
        # inputs in the order in which their turns started, ended and were cancelled
        self.started: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.running: list[str] = []
        # the most that ever ran side by side
        self.peak = 0
        self._let: set[str] = set()
        self._open = False
        self._changed = asyncio.Condition()

    async def __call__(self, text: str) -> str:
        """Wait to be let go, then answer."""
        self.started.append(text)
        self.running.append(text)
        self.peak = max(self.peak, len(self.running))
        try:
            async with self._changed:
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._open or text in self._let)
            self.ended.append(text)
            return f"done: {text}"
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        finally:
            self.running.remove(text)

    async def let(self, *inputs: str) -> None:
        """Let turns with these inputs end, now or when they start."""
        async with self._changed:
            self._let.update(inputs)
            self._changed.notify_all()

    async def let_all(self) -> None:
        """Let every turn end from now on."""
        async with self._changed:
            self._open = True
            self._changed.notify_all()

    async def until_started(self, count: int) -> None:
        """Until so many turns have started since the beginning."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.started) >= count)


class Scripted:
    """An agent made of one function; counts how often it was opened and closed."""

    def __init__(self, run: Run, *, state_format: str = "") -> None:
        self.state_format = state_format
        self.opened = 0
        self.closed = 0
        self._run = run

    async def open(self) -> None:
        """Count."""
        self.opened += 1

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """As the function says."""
        return await self._run(turn, ctx)

    async def close(self) -> None:
        """Count."""
        self.closed += 1


class Talking:
    """Says the words of its input; `*` instead of a word waits to be let on.

    `stopped_at` gets the place of each `*` that it has come to.
    """

    def __init__(self) -> None:
        self._steps: asyncio.Queue[None] = asyncio.Queue()
        self.stopped_at: asyncio.Queue[int] = asyncio.Queue()

    def go_on(self) -> None:
        """Let it on, past one `*`."""
        self._steps.put_nowait(None)

    async def __call__(self, text: str) -> AsyncIterator[str]:
        """Say the words."""
        for n, word in enumerate(text.split()):
            if word == "*":
                self.stopped_at.put_nowait(n)
                await self._steps.get()
            else:
                yield word + " "


class Unopenable:
    """An agent that cannot be opened the first `failures` times; answers `opened`."""

    state_format = ""

    def __init__(self, failures: int) -> None:
        # when it was tried, on the loop's clock
        self.tried_at: list[float] = []
        self._failures = failures

    async def open(self) -> None:
        """Fail, or not any more."""
        self.tried_at.append(asyncio.get_running_loop().time())
        if len(self.tried_at) <= self._failures:
            raise OSError("no route to the model")

    async def run(self, turn: TurnInput, ctx: Context) -> TurnEnd:
        """Answer."""
        return TurnEnd(output="opened")

    async def close(self) -> None:
        """Nothing to close."""


class Crashing:
    """An agent that breaks its actor the first `times` times; then it says how often it ran."""

    def __init__(self, times: int) -> None:
        self.runs = 0
        self._times = times

    async def __call__(self, text: str) -> str:
        """Exit, or answer."""
        self.runs += 1
        if self.runs <= self._times:
            raise SystemExit(1)
        return f"run {self.runs}"


class Stubborn:
    """An agent that takes no notice of being cancelled until `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.runs = 0
        self.running = asyncio.Event()
        # set when a run that was told to stop has come to its end
        self.through = asyncio.Event()

    async def __call__(self, text: str) -> str:
        """Wait, whatever happens; only the first run is stubborn."""
        self.runs += 1
        if self.runs > 1:
            return "obedient"
        self.running.set()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue
        self.through.set()
        return "too late"


class Leaking:
    """An agent that answers and leaves `count` tasks running."""

    def __init__(self, count: int) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self._count = count

    async def __call__(self, text: str) -> str:
        """Start the tasks and answer."""
        self.tasks = [asyncio.create_task(self._forever()) for _ in range(self._count)]
        await asyncio.sleep(0)
        return "answered"

    async def _forever(self) -> None:
        await asyncio.Event().wait()


class Notices:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.all: list[Notice] = []
        self._told = asyncio.Event()

    def notice(self, notice: Notice) -> None:
        """Keep it."""
        self.all.append(notice)
        self._told.set()

    def of(self, kind: type[N]) -> list[N]:
        """Those of one kind, in order."""
        return [notice for notice in self.all if isinstance(notice, kind)]

    async def until(self, kind: type[Notice], count: int = 1) -> None:
        """Until it was told so many of a kind."""
        while len(self.of(kind)) < count:
            self._told.clear()
            await self._told.wait()


async def collected(events: AsyncIterator[Event]) -> list[Event]:
    """All events, to the end."""
    return [event async for event in events]


def said(events: Iterable[Event]) -> str:
    """The text that readers have seen, joined: after a new start only what came since."""
    text = ""
    for event in events:
        if event.type == "turn.started":
            text = ""
        text += getattr(event, "text", "") if event.type == "text.delta" else ""
    return text
