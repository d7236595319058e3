"""Callers of every kind, who decide at random what they ask, how, and whether they wait for it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from copy import copy
from itertools import count
from random import Random
from typing import Any, Literal, get_args

from pool import Context, Cursor, TurnRequest
from pool.errors import (
    Conflict,
    DeadlineExceeded,
    NotFound,
    PoolError,
    Refused,
    SessionBusy,
    StoreUnavailable,
)
from pool.store.base import SessionKey
from pool.turn import IfBusy, OnDisconnect, Priority, Turn
from tests.support.witness import LONG_S, Asked, Read, Witness, principal_of

Manner = Literal["ask", "stream", "stream a little", "resume", "wait", "cancel", "forget"]

PLAIN_STEPS = ("say", "say", "say", "nap", "nap", "sleep=0.1", "sleep=0.4", "sleep=1.1")
ODD_STEPS = (
    *("raise", "overload", "quit", "crash=1", "crash=2", "crash=9", "deaf=0.3", "deaf=2"),
    *("leak=0.2", "leak=9000", "pause", "pause", "ask", "ask", "usurp", "limit"),
)


class Callers:
    """Ask a pool, and tell the witness what came of it.

    `nests`: for each agent, whom it may ask. `odd`: the steps that may come into a script.
    """

    def __init__(
        self,
        witness: Witness,
        random: Random,
        *,
        tenants: list[str],
        sessions: int,
        nests: dict[str, list[str]],
        odd: tuple[str, ...] = ODD_STEPS,
    ) -> None:
        self._witness = witness
        self._pool = witness.pool
        self._random = random
        self._tenants = tenants
        self._sessions = [f"s{number}" for number in range(sessions)]
        self._nests = nests
        self._odd = odd
        self._numbers = count(1)
        # what was asked with an idempotency key
        self._keyed: list[tuple[Asked, TurnRequest, str]] = []

    def at(self, witness: Witness) -> Callers:
        """The same callers at another pool."""
        others = copy(self)
        others._witness, others._pool = witness, witness.pool
        return others

    # --- what is asked

    def draw(self) -> tuple[Asked, TurnRequest, str | None]:
        """A request, perhaps one that was made before, with its idempotency key."""
        random = self._random
        if self._keyed and random.random() < 0.15:
            return random.choice(self._keyed)
        agent = random.choice(list(self._nests))
        asked = self.asked(
            SessionKey(random.choice(self._tenants), random.choice(self._sessions)),
            agent,
            self._script(agent),
            random.uniform(0.2, 3.0) if random.random() < 0.3 else LONG_S,
            random.choices(get_args(IfBusy), (6, 1, 1, 1))[0],
        )
        request = TurnRequest(
            input=asked.input,
            agent=agent,
            deadline_s=asked.deadline_s,
            priority=random.choice(get_args(Priority)),
            if_busy=asked.if_busy,
            on_disconnect=random.choice(get_args(OnDisconnect)),
        )
        if random.random() >= 0.25:
            return asked, request, None
        keyed = (asked, request, f"key-{asked.number}")
        self._keyed.append(keyed)
        return keyed

    def asked(
        self, key: SessionKey, agent: str, script: str, deadline_s: float, if_busy: IfBusy
    ) -> Asked:
        """A request, taken down."""
        asked = Asked(next(self._numbers), key, agent, script, deadline_s, if_busy)
        self._witness.asked[asked.number] = asked
        return asked

    def _script(self, agent: str) -> str:
        words = self._random.choices(PLAIN_STEPS, k=self._random.randrange(4))
        odd = [word for word in self._odd if word != "ask" or self._nests[agent]]
        for _ in range(self._random.choices((0, 1, 2), (60, 30, 10))[0] if odd else 0):
            words.insert(self._random.randrange(len(words) + 1), self._random.choice(odd))
        return " ".join(words) or "nap"

    # --- how it is asked

    async def call(self) -> None:
        """Make one call in some manner; perhaps leave in the middle of it."""
        random = self._random
        asked, request, key = self.draw()
        calling = asyncio.create_task(self._call(asked, request, key))
        if random.random() < 0.2:
            await asyncio.wait([calling], timeout=random.choice([0, 0, 0.05, random.random() * 2]))
            if not calling.done():
                if request.on_disconnect == "cancel":
                    asked.given_up = True
                calling.cancel()
        await asyncio.wait([calling])
        if asked.fate == "open" and not asked.trying:
            asked.fate = "left"
        if not calling.cancelled():
            calling.result()

    async def _call(self, asked: Asked, request: TurnRequest, key: str | None) -> None:
        manner = self._random.choice(get_args(Manner))
        before = asked.fate
        drained = self._witness.drained_at is not None
        asked.trying += 1
        if asked.fate == "refused":
            asked.fate = "open"
        try:
            await self._ask(manner, asked, request, key)
        except (Refused, SessionBusy) as refused:
            if refused.turn_id is None:
                self._refused(asked, before, refused)
            else:
                self._accepted(asked, refused.turn_id)
        except PoolError as failed:
            if failed.turn_id is None:
                raise
            self._accepted(asked, failed.turn_id)
        except asyncio.CancelledError:
            if asked.fate == "open":
                asked.fate = "left"
            raise
        finally:
            asked.trying -= 1
        if drained and before != "accepted" and asked.fate == "accepted" and asked.trying == 0:
            self._check_drained(asked)

    def _check_drained(self, asked: Asked) -> None:
        if asked.at is not None and asked.at > (self._witness.drained_at or 0.0):
            self._witness.wrong(16, f"{asked} was accepted in a drain")

    async def _ask(
        self, manner: Manner, asked: Asked, request: TurnRequest, key: str | None
    ) -> None:
        principal = principal_of(asked.key.tenant)
        if asked.at is None:
            asked.at = asyncio.get_running_loop().time()
        options: dict[str, Any] = {
            "session": asked.key.id,
            "idempotency_key": key,
            "principal": principal,
        }
        if manner in ("ask", "stream", "stream a little"):
            options.update(
                agent=request.agent,
                deadline_s=request.deadline_s,
                priority=request.priority,
                if_busy=request.if_busy,
                on_disconnect=request.on_disconnect,
            )
        if manner == "ask":
            await self._told(asked, await self._pool.ask(request.input, **options))
            return
        if manner in ("stream", "stream a little"):
            await self._stream(asked, request, options, little=manner == "stream a little")
            return
        turn = (await self._pool.accept(request, **options)).turn
        await self._told(asked, turn)
        self._witness.look()
        if manner == "resume":
            await self._read_in_parts(asked, turn)
        elif manner == "wait":
            timeout_s = self._random.choice([None, 0.0, 0.3, 1.0])
            await self._told(
                asked,
                await self._pool.wait(
                    turn.id, timeout_s=timeout_s, until_paused=True, principal=principal
                ),
            )
        elif manner == "cancel":
            await asyncio.sleep(self._random.choice([0, 0.1, 0.5]))
            asked.given_up = True
            await self._told(asked, await self._pool.cancel(turn.id, principal=principal))

    async def _stream(
        self, asked: Asked, request: TurnRequest, options: dict[str, Any], *, little: bool
    ) -> None:
        read: Read | None = None
        enough = self._random.randrange(1, 4) if little else 1_000_000
        async with aclosing(self._pool.stream(request.input, **options)) as events:
            async for event in events:
                if read is None:
                    read = self._read(asked, event.turn_id)
                await self._witness.saw(read, event)
                read.whole = event.terminal
                if len(read.events) >= enough and not event.terminal:
                    asked.given_up |= request.on_disconnect == "cancel"
                    break

    async def _read_in_parts(self, asked: Asked, turn: Turn) -> None:
        read = self._read(asked, turn.id)
        after: Cursor | None = None
        while not read.whole:
            enough = self._random.randrange(1, 6)
            events = self._pool.events(
                turn.id, after=after, principal=principal_of(asked.key.tenant)
            )
            async with aclosing(events):
                async for event in events:
                    await self._witness.saw(read, event)
                    read.whole = event.terminal
                    after = event.cursor
                    enough -= 1
                    if not enough:
                        break
                else:
                    break

    def _read(self, asked: Asked, turn_id: str) -> Read:
        self._accepted(asked, turn_id)
        read = Read(turn_id, asked.key)
        self._witness.reads.append(read)
        return read

    # --- what came of it

    async def _told(self, asked: Asked, turn: Turn) -> None:
        self._accepted(asked, turn.id)
        await self._witness.told(asked.key, turn)

    def _accepted(self, asked: Asked, turn_id: str) -> None:
        if asked.turn_id and asked.turn_id != turn_id:
            self._witness.wrong(4, f"{asked} is now turn {turn_id}: accepted twice")
        asked.fate = "accepted"
        asked.turn_id = turn_id

    def _refused(self, asked: Asked, before: str, refused: PoolError) -> None:
        if before == "accepted":
            self._witness.wrong(4, f"{asked} was accepted before and is now refused: {refused}")
        if asked.fate == "open" and asked.trying == 1:
            asked.fate = "refused"

    # --- what agents need (see `Helper`)

    async def ask_another(self, ctx: Context) -> None:
        """Ask one of those whom this agent may ask, in a session that is only for such turns."""
        random = self._random
        agent = random.choice(self._nests[ctx.agent])
        session = random.choice([f"of-{ctx.turn_id}", f"shared-{ctx.agent}-{agent}"])
        key = SessionKey(ctx.principal.tenant, session)
        script = self._script(agent).replace("pause", "nap").replace("usurp", "nap")
        deadline_s = random.choice([0.5, LONG_S])
        asked = self.asked(key, agent, script, deadline_s, "queue")
        asked.nested = True
        asked.pools.append(self._pool.name)
        try:
            turn = await self._pool.ask(
                asked.input, agent=agent, session=session, deadline_s=deadline_s
            )
        except asyncio.CancelledError:
            asked.given_up = True
            asked.fate = "left"
            raise
        except PoolError as error:
            self._nested_failed(asked, error)
            raise
        await self._told(asked, turn)

    def _nested_failed(self, asked: Asked, error: PoolError) -> None:
        if error.turn_id is not None:
            self._accepted(asked, error.turn_id)
        elif isinstance(error, Refused | DeadlineExceeded | Conflict):
            asked.fate = "refused"
        elif isinstance(error, StoreUnavailable):
            asked.fate = "left"
            asked.given_up = True

    async def usurp(self, ctx: Context) -> None:
        """Submit a turn that interrupts the one that submits it."""
        key = SessionKey(ctx.principal.tenant, ctx.session_id)
        asked = self.asked(key, ctx.agent, "say", LONG_S, "interrupt")
        asked.pools.append(self._pool.name)
        try:
            turn = await self._pool.submit(
                asked.input,
                agent=ctx.agent,
                session=ctx.session_id,
                deadline_s=LONG_S,
                if_busy="interrupt",
                principal=ctx.principal,
            )
        except asyncio.CancelledError:
            asked.fate = "left"
            raise
        except Refused:
            asked.fate = "refused"
            return
        except StoreUnavailable:
            asked.fate = "left"
            asked.given_up = True
            raise
        await self._told(asked, turn)

    # --- the human

    async def decide_all(self) -> None:
        """Decide about every call that waits now; sometimes twice at once."""
        for live in list(self._witness.live.values()):
            for pending in live.record.pending:
                times = self._random.choice([1, 1, 2])
                choices = [
                    self._decide(live.id, pending.call_id, live.tenant) for _ in range(times)
                ]
                decided = await asyncio.gather(*choices)
                if sum(decided) > 1:
                    self._witness.wrong(20, f"call {pending} of {live} was decided {decided}")

    async def _decide(self, turn_id: str, call_id: str, tenant: str) -> bool:
        principal = principal_of(tenant)
        if self._random.random() < 0.2:
            if turn_id in self._witness.live:
                self._witness.asked_by(turn_id).given_up = True
            await self._pool.cancel(turn_id, principal=principal)
            return False
        try:
            await self._pool.decide(
                turn_id,
                call_id,
                self._random.choice(["approve", "deny"]),
                arguments=None,
                principal=principal,
            )
        except (Conflict, NotFound):
            return False
        return True
