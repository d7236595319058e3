"""The storm itself: who is killed when, what is asked, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Literal

from msgspec import Struct

from tests.fault.audit import audit
from tests.fault.clients import Caller, calling
from tests.fault.replicas import Fleet, fleet
from tests.fault.runs import Run
from tests.fault.seen import Event
from tests.storm.clients import CLIENTS, KINDS, StormClient
from tests.support.redis_servers import redis_server

Kind = Literal["redis", "sqlite"]


class Plan(Struct, frozen=True, kw_only=True):
    """How large a storm is, and what it is drawn from. SQLite has one replica."""

    turns: int = 2_000
    sessions: int = 200
    replicas: int = 3
    store: Kind = "redis"
    seed: int = 1
    lease_s: float = 1.0
    # how many actors each replica has, and how long a client thinks before a turn, at most
    actors: int = 32
    think_s: float = 5.0
    # seconds between two kills, at least and at most; and how long a killed one stays away
    kill_every_s: tuple[float, float] = (1.5, 3.0)
    away_s: tuple[float, float] = (0.2, 1.0)


class Kill(Struct, frozen=True):
    """A process that was killed, and when (seconds since the epoch)."""

    pid: int
    at: float


class Report(Struct, frozen=True, kw_only=True):
    """What a storm came to. `recovery_s`: from each kill to the next run of each turn it broke."""

    turns: int
    again: int
    events: int
    kills: int
    reconnects: int
    recovery_s: Sequence[float]
    wall_s: float

    def __str__(self) -> str:
        p50, p99, most = (_quantile(self.recovery_s, part) for part in (0.5, 0.99, 1.0))
        return (
            f"turns {self.turns} (run again {self.again}), events {self.events}, "
            f"kills {self.kills}, reconnects {self.reconnects}, "
            f"recovery p50 {p50:.2f} s, p99 {p99:.2f} s, max {most:.2f} s, "
            f"wall {self.wall_s:.1f} s"
        )


async def storm(plan: Plan, directory: Path) -> Report:
    """Let it rage. `AssertionError` with whatever was lost, done twice, or seen wrongly."""
    environ = {
        "ACTORPOOL_POOL_MAX_ATTEMPTS": "20",
        "ACTORPOOL_AGENTS_AGENT_MAX": str(plan.actors),
        "ACTORPOOL_LOG_LEVEL": "warning",
    }
    with ExitStack() as stack:
        if plan.store == "redis":
            url = stack.enter_context(redis_server()).url
        else:
            url = f"sqlite://{directory}/storm.db"
        replicas = stack.enter_context(
            fleet(plan.replicas, url, directory, lease_s=plan.lease_s, environ=environ)
        )
        begun = time.monotonic()
        async with calling(replicas, seed=plan.seed) as caller:
            clients = [_client(plan, caller, number) for number in range(plan.sessions)]
            kills = await _rage(plan, replicas, clients)
            wall_s = time.monotonic() - begun
            wrongs = [wrong for client in clients for wrong in await _differences(caller, client)]
        for replica in replicas:
            replica.kill()
        heard = {turn_id for client in clients for turn_id, _, _ in client.heard}
        seen = [client.seen for client in clients]
        if wrongs:
            raise AssertionError("\n".join(wrongs))
        account = await audit(url, replicas.runs, accepted=heard, seen=seen)
        if account.states != {"completed": plan.turns}:
            raise AssertionError(f"asked were {plan.turns} turns, stored are {account.states}")
        return Report(
            turns=plan.turns,
            again=account.again,
            events=account.events,
            kills=len(kills),
            reconnects=sum(client.reconnects for client in clients),
            recovery_s=_recoveries(replicas.runs.all(), kills),
            wall_s=wall_s,
        )


def _client(plan: Plan, caller: Caller, number: int) -> StormClient:
    random = Random(f"{plan.seed}-{number}")
    share = range(number, plan.turns, plan.sessions)
    texts = [_script(turn, random) for turn in share]
    kind = KINDS[number % len(KINDS)]
    return CLIENTS[kind](caller, f"s{number}", texts, random=random, think_s=plan.think_s)


def _script(number: int, random: Random) -> str:
    """A turn of 50 to 500 ms."""
    words = random.randint(2, 10)
    pause_ms = max(5, random.randint(50, 450) // words)
    tool = random.choice(("", "tool ", "tool work=20 "))
    return f"{number} {tool}say={words}:{pause_ms}"


async def _rage(plan: Plan, replicas: Fleet, clients: Sequence[StormClient]) -> list[Kill]:
    kills: list[Kill] = []
    killing = asyncio.create_task(_kill(plan, replicas, kills))
    asking = asyncio.create_task(_ask(clients))
    await asyncio.wait([killing, asking], return_when=asyncio.FIRST_COMPLETED)
    if killing.done():
        # it only ends if it fails
        asking.cancel()
        await asyncio.wait([asking])
        killing.result()
    killing.cancel()
    await asyncio.wait([killing])
    asking.result()
    return kills


async def _ask(clients: Sequence[StormClient]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run())
    except* AssertionError as failed:
        raise AssertionError("\n".join(map(str, failed.exceptions))) from failed


async def _kill(plan: Plan, replicas: Fleet, kills: list[Kill]) -> None:
    """Kill one replica after another, and start it again."""
    random = Random(plan.seed)
    while True:
        await asyncio.sleep(random.uniform(*plan.kill_every_s))
        victim = random.choice(replicas.replicas)
        pid = victim.process.process.pid
        victim.kill()
        kills.append(Kill(pid, time.time()))
        await asyncio.sleep(random.uniform(*plan.away_s))
        await asyncio.to_thread(victim.start)


async def _differences(caller: Caller, client: StormClient) -> list[str]:
    """Where the transcript of a client is not the store's."""
    stored = await caller.messages(client.session)
    wrongs = []
    for place, (turn_id, text, answer) in enumerate(client.heard):
        had, kept = [("user", text), ("assistant", answer)], stored[2 * place : 2 * place + 2]
        if had != kept:
            seen = [_short(each) for each in client.seen.events if each["turn_id"] == turn_id]
            wrongs.append(f"{client.session}, {turn_id}: {had}, stored {kept}, seen {seen}")
    if len(stored) != 2 * len(client.heard):
        wrongs.append(f"{client.session}: the store has more than was asked: {stored}")
    return wrongs


def _short(event: Event) -> tuple[str, str, object]:
    return event["type"], event["id"], event.get("text", event.get("attempt"))


def _recoveries(runs: Sequence[Run], kills: Sequence[Kill]) -> list[float]:
    """For each run that a kill broke off: how long after it the turn ran again."""
    killed = {kill.pid: kill.at for kill in kills}
    found = []
    latest: dict[str, Run] = {}
    for run in runs:
        before = latest.get(run.turn_id)
        if before is not None and before.pid in killed:
            found.append(run.at - killed[before.pid])
        latest[run.turn_id] = run
    return found


def _quantile(values: Sequence[float], part: float) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
