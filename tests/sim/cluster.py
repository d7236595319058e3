"""One seeded run of several pools on one store: made, used, broken, mended, audited and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from random import Random
from typing import Final, Literal

from structlog.testing import capture_logs

from pool import AgentPool, AgentSpec, PoolConfig
from pool.errors import Refused
from pool.store.base import SessionKey
from tests.sim.agents import ScriptedAgent, human_decides
from tests.sim.callers import Callers
from tests.sim.clients import Clients
from tests.sim.purse import SPENDS, Purse
from tests.sim.remote import Ledger, Pace, Remote
from tests.sim.replica import TOLD_S, Book, Replica, ReplicaWitness
from tests.sim.shared_audit import audit_shared
from tests.support.audit import quiet
from tests.support.loop import SeededLoop
from tests.support.tasks import describe
from tests.support.witness import LONG_S, principal_of

Fault = Literal["kill", "stop", "leave", "cut off", "lose"]

# Time of day at the loop's time 0.
EPOCH_S: Final = 1_000.0
LEASE_S: Final = 3.0
# The most replicas that serve at a time.
MOST: Final = 4
# Whom each agent may ask.
NESTS: Final = {"alpha": ["beta"], "beta": []}
STEPS: Final = (
    *("raise", "overload", "quit", "crash=1", "crash=2", "crash=9", "deaf=0.3", "deaf=2"),
    *("leak=0.2", "pause", "pause", "pause", "check", "check", "ask", "usurp", "limit"),
)
# How long after the last fault everything that was accepted must have ended, in seconds.
SETTLED_S: Final = 120.0
# How long a process may take to end that is told to do so at once.
ENDED_S: Final = 20.0
# How long an agent may go on that was left behind, and readers may take that have left, in seconds.
LAST_S: Final[dict[Pace, float]] = {"suspends": 2.2, "slow": 5.0}
SOON_S: Final[dict[Pace, float]] = {"suspends": 0.5, "slow": 1.5}
# What the log may say at level error without anything being wrong: agents' own doing; and, where
# the store could not be reached by a pool that closed, that it does not know how turns ended.
EXPECTED: Final = {"agent failed", "turn is a dead letter", "agent does not end"}
EXPECTED_CUT_OFF: Final = {"turn could not be ended here"}


@dataclass(frozen=True)
class Cluster:
    """What a simulation of replicas is made of; the seed decides the rest. With a `budget` turns
    spend, and are refused when it is used up.

    `calls`: how many there are. `faults`: what may happen to a process, `times` times at most.
    """

    faults: tuple[Fault, ...] = ()
    times: int = 3
    calls: int = 12
    pace: Pace = "suspends"
    steps: tuple[str, ...] = STEPS
    budget: bool = False

    async def __call__(self) -> None:
        """Run it on a `SeededLoop`."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, SeededLoop):
            raise TypeError("a simulation runs on a SeededLoop")
        with capture_logs() as logs:
            await _Simulation(self, Random(loop.seed), loop).run()
        expected = EXPECTED | (EXPECTED_CUT_OFF if self.faults else set())
        said = [e for e in logs if e["log_level"] == "error" and e["event"] not in expected]
        if said:
            raise AssertionError(f"the log says {said}")


class _Simulation:
    def __init__(self, scenario: Cluster, random: Random, loop: SeededLoop) -> None:
        self.scenario = scenario
        self.random = random
        self.loop = loop
        self.tenants = [f"t{number}" for number in range(random.randrange(1, 3))]
        self.config = self._config()
        self.specs = {name: self._spec(name) for name in NESTS}
        self.ledger = Ledger(clock=self._wall, lease_s=LEASE_S)
        slow_s = 2.0 if scenario.pace == "slow" else 0.0
        self.book = Book(self.ledger, EPOCH_S, TOLD_S + slow_s)
        self.purse: Purse | None = None
        if scenario.budget:
            self.purse = Purse(random, self.ledger, wall=self._wall, wrong=self.book.wrong)
        self.names = count()
        self.witnesses: dict[str, ReplicaWitness] = {}
        self.callers: Callers | None = None
        self.mending: list[asyncio.TimerHandle] = []
        self.done = False

    def _wall(self) -> float:
        return EPOCH_S + self.loop.time()

    # --- what it is made of

    def _config(self) -> PoolConfig:
        random = self.random
        return PoolConfig(
            queue_max=random.choice([4, 20, 20]),
            tenant_share=random.choice([0.7, 1.0]),
            overload_wait_s=5.0,
            start_limit=random.randrange(1, 4),
            scale_down_hold_s=random.choice([0.7, 3.0]),
            tick_s=1.0,
            limit_window_s=0.5,
            backoff_first_s=0.05,
            backoff_max_s=0.5,
            quiet_s=2.0,
            restarts_max=20,
            restarts_window_s=1.0,
            cancel_grace_s=random.choice([0.2, 0.5]),
            max_attempts=random.choice([2, 3]),
            watchdog_s=0,
            flush_events=random.choice([1, 2, 64]),
            approval_ttl_s=LONG_S,
        )

    def _spec(self, name: str) -> AgentSpec:
        least = self.random.randrange(2)
        return AgentSpec(
            agent=lambda: None,
            min=least,
            max=least + self.random.randrange(1, 3),
            gate=human_decides,
        )

    def _pool(self, name: str, remote: Remote) -> AgentPool:
        specs = {
            agent: AgentSpec(
                agent=partial(self._agent, name), min=spec.min, max=spec.max, gate=spec.gate
            )
            for agent, spec in self.specs.items()
        }
        seed = self.random.randrange(2**32)
        return AgentPool(
            specs,
            config=self.config,
            store=remote,
            name=name,
            seed=seed,
            cost=None if self.purse is None else self.purse.cost,
            wall=self._wall,
        )

    def _agent(self, name: str) -> ScriptedAgent:
        assert self.callers is not None
        witness = self.witnesses[name]
        return ScriptedAgent(witness, self.random, helper=self.callers.at(witness), open_fails=0)

    async def _join(self) -> Replica:
        random = Random(self.random.randrange(2**32))
        remote = Remote(self.ledger, random, self.scenario.pace)
        replica = Replica(f"r{next(self.names)}", remote, self.book, self._pool)
        self.witnesses[replica.name] = replica.witness
        if self.callers is None:
            self.callers = Callers(
                replica.witness,
                self.random,
                tenants=self.tenants,
                sessions=self.random.choice([1, 1, 2]),
                nests=NESTS,
                odd=self.scenario.steps + (SPENDS if self.purse else ()),
            )
        await replica.open()
        self.book.replicas.append(replica)
        return replica

    # --- the run

    async def run(self) -> None:
        """All of it."""
        for _ in range(self.random.choice([2, 2, 3, 3, MOST])):
            await self._join()
        assert self.callers is not None
        self.clients = Clients(self.book, self.random, self.callers)
        others = [self._human(), self._inspector()]
        tasks = [asyncio.create_task(other) for other in others]
        watching = [asyncio.create_task(self.clients.watch(key)) for key in self._watched()]
        chaos = asyncio.create_task(self._chaos())
        try:
            await self._calls()
            await chaos
            await self._mend()
            await self._until_quiet()
        finally:
            self.done = True
            await asyncio.gather(*tasks)
            for task in watching:
                task.cancel()
            if watching:
                await asyncio.wait(watching)
        for task in watching:
            if not task.cancelled():
                task.result()
        await asyncio.sleep(SOON_S[self.scenario.pace])
        self._quiet()
        await audit_shared(
            self.book,
            self.clients.session_reads,
            max_attempts=self.config.max_attempts,
            obeys_s=self.config.cancel_grace_s + (2 if self.scenario.pace == "slow" else 0.1),
        )
        if self.purse is not None:
            for tenant in self.tenants:
                turns = await self.ledger.all_turns(tenant)
                await self.purse.audit(
                    tenant,
                    turns,
                    counted=all(replica.fate == "up" for replica in self.book.replicas),
                    settled=not self.book.faults,
                )
        self._report()
        await self._answers_on()
        await self._close()
        self._report()

    def _watched(self) -> list[SessionKey]:
        if self.random.random() < 0.5:
            return []
        return [SessionKey(self.random.choice(self.tenants), "s0")]

    def _report(self) -> None:
        if self.book.wrongs:
            raise AssertionError("\n".join(dict.fromkeys(self.book.wrongs)))

    async def _calls(self) -> None:
        left = self.scenario.calls

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.clients.call()
                await asyncio.sleep(self.random.choice([0, 0, 0.1, self.random.random()]))

        callers = [asyncio.create_task(caller()) for _ in range(self.random.randrange(3, 6))]
        done, pending = await asyncio.wait(callers, timeout=LONG_S / 4)
        if pending:
            self.book.wrong(15, f"callers wait for ever:\n{describe(pending)}\n{self._state()}")
            self._report()
        for task in done:
            task.result()

    async def _human(self) -> None:
        while not self.done:
            await asyncio.sleep(self.random.uniform(0.1, 1.0))
            await self.clients.decide_all()

    async def _inspector(self) -> None:
        # at times at which nothing else happens
        while not self.done:
            await asyncio.sleep(self.random.uniform(0.1, 0.6))
            for replica in self.book.up():
                steady = self.scenario.pace != "slow" and not replica.remote.faulty
                replica.witness.look(steady=steady)
            if self.purse is not None:
                await self.purse.look(self.tenants)

    # --- faults

    async def _chaos(self) -> None:
        faults = self.scenario.faults
        for _ in range(self.random.randrange(self.scenario.times + 1) if faults else 0):
            await asyncio.sleep(self.random.choice([0.0, 0.2, 0.6]) + self.random.random())
            candidates = self.book.up()
            if candidates:
                await self._fault(self.random.choice(candidates), self.random.choice(faults))

    async def _fault(self, replica: Replica, fault: Fault) -> None:
        random = self.random
        self._disturbed()
        replica.shaken = True
        self.book.violent |= fault != "leave"
        if fault == "kill":
            replica.die()
        elif fault == "leave":
            replica.leave(random.choice([0.0, 0.5, 3.0]))
        elif fault == "stop":
            replica.remote.stop()
            self._later(LEASE_S * random.choice([0.1, 1.1, 1.4, 2.0]), self._go_on, replica)
            return
        else:
            self.book.cut_off = True
            refuses, loses = (0.0, 0.4) if fault == "lose" else (random.choice([0.3, 1.0]), 0.1)
            silent = random.random() < 0.5
            replica.remote.cut_off(refuses=refuses, loses=loses, silent=silent)
            self._later(LEASE_S * random.choice([0.1, 0.5, 2.0]), self._restored, replica)
            return
        if len(self.book.up()) < 2 or random.random() < 0.5:
            await asyncio.sleep(random.choice([0, 0, 1.0]))
            await self._join()

    def _later(self, seconds: float, mend: Callable[[Replica], None], replica: Replica) -> None:
        self.mending.append(self.loop.call_later(seconds, mend, replica))

    def _disturbed(self) -> None:
        self.book.faults.append(self.loop.time())

    def _go_on(self, replica: Replica) -> None:
        self._disturbed()
        replica.remote.go_on()

    def _restored(self, replica: Replica) -> None:
        self._disturbed()
        replica.remote.restored()

    async def _mend(self) -> None:
        for timer in self.mending:
            timer.cancel()
        for replica in self.book.replicas:
            if replica.remote.faulty:
                replica.remote.go_on()
                replica.remote.restored()
        if not self.book.up():
            await self._join()

    # --- afterwards

    async def _until_quiet(self) -> None:
        until = self.loop.time() + SETTLED_S
        while self.ledger.unended or any(r.pool.stats().turns for r in self.book.up()):
            if self.loop.time() > until:
                self.book.wrong(15, f"stuck: {self._state()}")
                self._report()
            await asyncio.sleep(0.7)
        for replica in self.book.replicas:
            if not await replica.ended(ENDED_S):
                self.book.wrong(16, f"{replica} does not end")
                self._report()
        # what agents and their actors do on their way out, and what readers have not seen yet
        await asyncio.sleep(LAST_S[self.scenario.pace])

    def _state(self) -> str:
        lines = [f"now {self.loop.time():.2f}, faults at {self.book.faults}"]
        lines += [f"held: {self.ledger.held()}", f"open: {self.ledger.unended}"]
        for replica in self.book.replicas:
            sessions = list(replica.pool._sessions._sessions.values())
            live = [f"{turn} {turn.record}" for turn in replica.witness.live.values()]
            lines.append(f"{replica}: {replica.pool} {sessions} {live}")
        return "\n  ".join(lines)

    def _quiet(self) -> None:
        for replica in self.book.up():
            quiet(replica.witness)
        names = {replica.name for replica in self.book.up()}
        for key, watchers in self.ledger.watchers().items():
            # who could not say so is told of events that nobody reads there: that harms nobody
            if watchers & names and not self.book.cut_off:
                self.book.wrong(16, f"{key} is still watched by {watchers}")
        if self.ledger.held():
            self.book.wrong(16, f"sessions are still held: {self.ledger.held()}")

    async def _answers_on(self) -> None:
        assert self.callers is not None
        # of somebody who has a budget left
        key = SessionKey("late", "last")
        for replica in self.book.up():
            agent = self.random.choice(list(NESTS))
            asked = self.callers.asked(key, agent, "say", LONG_S, "queue")
            for _ in range(100):
                try:
                    turn = await replica.pool.ask(
                        asked.input,
                        session=key.id,
                        agent=agent,
                        principal=principal_of(key.tenant),
                    )
                    break
                except Refused:
                    await asyncio.sleep(1)
            else:
                raise AssertionError(f"{replica} answers no more: {replica.pool}")
            assert turn.state == "completed"

    async def _close(self) -> None:
        for replica in self.book.up():
            replica.leave(0)
        for replica in self.book.replicas:
            if not await replica.ended(ENDED_S):
                self.book.wrong(16, f"{replica} does not end")
        await asyncio.sleep(SOON_S[self.scenario.pace])
        # who was killed, or could not say good-bye, is gone when its leases are
        mute = {replica.name for replica in self.book.replicas if replica.fate == "dead"}
        watched = any(watchers - mute for watchers in self.ledger.watchers().values())
        if self.ledger.held() or (watched and not self.book.cut_off):
            self.book.wrong(16, f"left: {self.ledger.held()}, {self.ledger.watchers()}")
        scheduled = self.loop._scheduled  # type: ignore[attr-defined]
        timers = [timer for timer in scheduled if not timer.cancelled()]
        if timers:
            self.book.wrong(16, f"timers are left: {timers}")
