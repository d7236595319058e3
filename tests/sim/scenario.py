"""One seeded run of a whole pool: made, used, disturbed, emptied, audited and closed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Literal

from structlog.testing import capture_logs

from pool import AgentPool, AgentSpec, PoolConfig
from pool.errors import Refused
from pool.store.base import SessionKey, Store
from pool.store.memory import MemoryStore
from pool.turn import Turn, TurnRequest
from tests.sim.agents import ScriptedAgent, human_decides
from tests.sim.callers import ODD_STEPS, Callers
from tests.sim.slow import SlowStore
from tests.support.audit import audit
from tests.support.loop import SeededLoop
from tests.support.stores import YieldingStore
from tests.support.witness import LONG_S, Witness, principal_of, report

# Time of day at the loop's time 0.
EPOCH_S = 1_000.0
# Whom each agent may ask. `alpha` and `beta` share a provider.
NESTS = {"gamma": ["alpha", "beta"], "alpha": ["beta"], "beta": []}
# What the log may say without anything being wrong.
EXPECTED_LOGS = {"agent failed", "turn is a dead letter", "agent does not end"}


@dataclass(frozen=True)
class Scenario:
    """What a simulation is made of; the seed decides the rest.

    `calls`: how many calls there are. `store`: how it answers. `drains`, `resizes`: whether the
    pool is drained or resized in the middle. `odd`: the agents' odd steps. `open_fails`: how often
    an agent does not open, 0 to 1.
    """

    calls: int = 24
    store: Literal["at once", "suspends", "slow"] = "at once"
    drains: bool = False
    resizes: bool = True
    odd: tuple[str, ...] = ODD_STEPS
    open_fails: float = 0.0

    async def __call__(self) -> None:
        """Run it on a `SeededLoop`."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, SeededLoop):
            raise TypeError("a simulation runs on a SeededLoop")
        with capture_logs() as logs:
            await _Simulation(self, Random(loop.seed)).run()
        said = {entry["event"] for entry in logs} - EXPECTED_LOGS
        if said:
            raise AssertionError(f"the log says {[e for e in logs if e['event'] in said]}")


class _Simulation:
    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.scenario = scenario
        self.random = random
        self.loop = asyncio.get_running_loop()
        self.tenants = [f"t{number}" for number in range(random.randrange(1, 4))]
        self.config = self._config()
        self.memory = MemoryStore(clock=self._wall)
        store: Store = self.memory
        if scenario.store == "suspends":
            store = YieldingStore(self.memory, seed=random.randrange(2**32))
        elif scenario.store == "slow":
            store = SlowStore(self.memory, seed=random.randrange(2**32))
        self.pool = AgentPool(
            {name: self._spec(name) for name in NESTS},
            config=self.config,
            store=store,
            seed=random.randrange(2**32),
            wall=self._wall,
        )
        self.witness = Witness(self.pool, self.memory)
        self.callers = Callers(
            self.witness,
            random,
            tenants=self.tenants,
            sessions=random.randrange(1, 4),
            nests=NESTS,
            odd=scenario.odd,
        )
        self.done = False

    def _wall(self) -> float:
        return EPOCH_S + self.loop.time()

    def _config(self) -> PoolConfig:
        random = self.random
        return PoolConfig(
            queue_max=random.choice([3, 6, 20]),
            tenant_share=random.choice([0.3, 0.7, 1.0]),
            tenant_weights={tenant: random.choice([0.5, 1.0, 3.0]) for tenant in self.tenants},
            overload_wait_s=random.choice([0.5, 5.0]),
            overload_window_s=random.choice([1.0, 5.0]),
            start_limit=random.randrange(1, 4),
            scale_down_hold_s=random.choice([0.7, 3.0]),
            tick_s=random.choice([0.5, 1.0]),
            limit_window_s=0.5,
            backoff_first_s=0.05,
            backoff_max_s=0.5,
            quiet_s=2.0,
            restarts_max=random.choice([2, 20]),
            restarts_window_s=1.0,
            cancel_grace_s=random.choice([0.2, 0.5]),
            max_attempts=random.choice([2, 3]),
            watchdog_s=0,
            flush_events=random.choice([1, 2, 64]),
            approval_ttl_s=LONG_S,
        )

    def _spec(self, name: str) -> AgentSpec:
        least = self.random.randrange(2)
        make = partial(self._agent)
        return AgentSpec(
            agent=make,
            min=least,
            max=least + self.random.randrange(1, 3),
            limit="provider" if name in ("alpha", "beta") else None,
            limit_initial=self.random.choice([None, 1, 2]),
            gate=human_decides,
        )

    def _agent(self) -> ScriptedAgent:
        return ScriptedAgent(
            self.witness, self.random, helper=self.callers, open_fails=self.scenario.open_fails
        )

    # --- the run

    async def run(self) -> None:
        """All of it."""
        await self.pool.open()
        others = [asyncio.create_task(self._human()), asyncio.create_task(self._operator())]
        others.append(asyncio.create_task(self._inspector()))
        try:
            await self._calls()
            await self._until_quiet()
        finally:
            self.done = True
            await asyncio.gather(*others)
        await audit(self.witness, self.tenants, max_attempts=self.config.max_attempts)
        if self.witness.drained_at is None:
            await self._answers_on()
        self.witness.closing = True
        await self.pool.close()
        await self._leases_are_free()
        report(self.witness)

    async def _calls(self) -> None:
        left = self.scenario.calls

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.callers.call()
                await asyncio.sleep(self.random.choice([0, 0, 0.1, self.random.random()]))

        await asyncio.gather(*(caller() for _ in range(self.random.randrange(3, 9))))

    async def _until_quiet(self) -> None:
        # whatever waits for a long deadline is not quiet, and waits in vain
        until = self.loop.time() + LONG_S / 2
        while self.pool.stats().turns:
            if self.loop.time() > until:
                stuck = [f"{live} {live.record}" for live in self.witness.live.values()]
                self.witness.wrong(15, f"stuck: {stuck}, {self.pool}")
                report(self.witness)
            await asyncio.sleep(0.7)
        # what agents and their actors do on their way out
        await asyncio.sleep(5)

    async def _human(self) -> None:
        while not self.done:
            await asyncio.sleep(self.random.uniform(0.1, 1.0))
            await self.callers.decide_all()

    async def _inspector(self) -> None:
        # at times at which nothing else happens
        while not self.done:
            await asyncio.sleep(self.random.uniform(0.01, 0.6))
            self.witness.look(steady=self.scenario.store != "slow")

    async def _operator(self) -> None:
        drain_at = self.random.uniform(0.0, 4.0)
        while not self.done:
            await asyncio.sleep(self.random.uniform(0.1, 1.5))
            await self.pool.ready()
            if self.scenario.drains and self.loop.time() >= drain_at:
                await self._drain()
                return
            if self.scenario.resizes and self.random.random() < 0.4:
                await self._resize()

    async def _resize(self) -> None:
        name = self.random.choice(list(NESTS))
        least = self.random.randrange(3)
        self.witness.resized(name)
        await self.pool.resize(name, min=least, max=least + self.random.randrange(1, 3))

    async def _drain(self) -> None:
        began_at = self.witness.drained_at = self.loop.time()
        deadline_s = self.random.choice([0.0, 0.5, 3.0])
        again = asyncio.create_task(self.pool.drain(deadline_s=deadline_s))
        await self.pool.drain(deadline_s=deadline_s)
        slow = self.scenario.store == "slow"
        if slow:
            # a turn that the store accepts late ends late
            await asyncio.sleep(5)
        if self.witness.live:
            self.witness.wrong(16, f"drained, but there is {list(self.witness.live.values())}")
        await again
        took_s = self.loop.time() - began_at
        if not slow and took_s > deadline_s + self.config.cancel_grace_s + 0.1:
            self.witness.wrong(16, f"drain({deadline_s}) took {took_s} s")

    async def _answers_on(self) -> None:
        for name in NESTS:
            asked = self.callers.asked(
                SessionKey(self.tenants[0], "last"), name, "say", 60.0, "queue"
            )
            for _ in range(100):
                try:
                    turn = await self.pool.ask(
                        asked.input,
                        session="last",
                        agent=name,
                        principal=principal_of(self.tenants[0]),
                    )
                    break
                except Refused:
                    await asyncio.sleep(1)
            else:
                raise AssertionError(f"{name} answers no more: {self.pool}")
            assert turn.state == "completed"

    async def _leases_are_free(self) -> None:
        for tenant in self.tenants:
            for info in (await self.memory.sessions(tenant, None, 1_000)).items:
                probe = Turn(
                    id=f"probe-{tenant}-{info.id}"[:64],
                    tenant=tenant,
                    user="",
                    session_id=info.id,
                    agent="alpha",
                    request=TurnRequest(input="0"),
                )
                if (await self.memory.accept(probe, owner="another")).lease is None:
                    self.witness.wrong(16, f"the lease of {tenant}/{info.id} was not released")
