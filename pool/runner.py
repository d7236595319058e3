"""Runs an agent on one turn, in the actor's task, and says how it came out."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from pool import scope
from pool.agent import Agent, Approval, Gate, TurnEnd, TurnInput
from pool.config import AgentSpec, PoolConfig
from pool.context import TurnContext
from pool.errors import AgentFailed, LeaseLost, PoolError
from pool.guard.answers import Answers
from pool.guard.sealing import SEALED
from pool.live import LiveTurn
from pool.observer import Observers, TasksLeakedNotice
from pool.reported import unknown_to
from pool.text import writable
from pool.turns import Turns

if TYPE_CHECKING:
    from pool.guard.privacy import Privacy
    from pool.guard.redact import Redactor

_log = structlog.get_logger("pool.runner")


class Runner:
    """What the actors of one agent do with a turn."""

    def __init__(
        self,
        spec: AgentSpec,
        turns: Turns,
        *,
        gate: Gate,
        config: PoolConfig,
        observers: Observers,
        answers: Answers | None = None,
        privacy: Privacy | None = None,
    ) -> None:
        self._spec = spec
        self._turns = turns
        self._gate = gate
        self._config = config
        self._observers = observers
        self._answers = answers
        self._privacy = privacy

    async def run(self, agent: Agent, turn: LiveTurn) -> None:
        """Run the turn to its stored end. What this raises has broken the actor."""
        outcome: TurnEnd | Exception
        state_format = agent.state_format
        if turn.stop is not None:
            # it was stopped between the dispatcher and here
            outcome = TurnEnd()
        else:
            token = scope.current.set(turn)
            try:
                if turn.distrusted:
                    await self._turns.note_start(turn)
                    await self._turns.billing.recalled(turn)
                redactor = None if self._privacy is None else self._privacy.redactor(turn.tenant)
                if state_format:
                    given, state_format = await self._input(
                        agent, turn, veiled=redactor is not None
                    )
                else:
                    given = TurnInput(turn.record.request.input)
                record = turn.record
                turn.reported = (record.kept_usage or record.usage) if given.resume else None
                context = TurnContext(
                    turn,
                    self._turns,
                    self._spec,
                    self._gate,
                    self._config,
                    state_format,
                    self._observers,
                    # it reports from nothing; if it goes on from a state, from there
                    unknown_to(turn.reported, record.usage),
                )
                veiled = redactor is not None or state_format != agent.state_format
                ask = partial(self._ask, agent, given, turn, context, redactor, veiled=veiled)
                if self._answers is None:
                    outcome = await ask()
                else:
                    outcome = await self._answers.answer(
                        ask, agent, turn, given, context, state_format=state_format
                    )
            except asyncio.CancelledError:
                outcome = self._cancelled(turn)
            except LeaseLost as lost:
                # the turn goes on in another process: that says nothing of the agent
                outcome = lost
            except Exception as error:
                if turn.stop is None:
                    self._tell(turn, error)
                outcome = error
            finally:
                scope.current.reset(token)
                if turn.tasks:
                    self._cancel_leftovers(turn)
            if turn.stopping:
                await _uncancel()
        await self._turns.finishing.finish(turn, outcome, state_format)

    async def _ask(
        self,
        agent: Agent,
        given: TurnInput,
        turn: LiveTurn,
        context: TurnContext,
        redactor: Redactor | None,
        *,
        veiled: bool,
    ) -> TurnEnd | Exception:
        if not veiled:
            return self._checked(await agent.run(given, context), turn)
        # loaded when a tenant wants it
        from pool.veiled import run_veiled

        return self._checked(await run_veiled(agent, given, context, redactor), turn)

    async def _input(self, agent: Agent, turn: LiveTurn, *, veiled: bool) -> tuple[TurnInput, str]:
        """What an agent that keeps a state is given, and the format in which that is kept: sealed
        behind a veil, and for as long as the session lives if it once was.
        """
        record = turn.record
        lease = turn.session.lease
        if lease is None:
            raise LeaseLost("the session is no longer held here")
        state = await self._turns.load(lease, turn)
        state_format, sealed = agent.state_format, SEALED + agent.state_format
        if veiled or (state.data is not None and state.format == sealed):
            state_format = sealed
        if state.data is not None and state.format != state_format:
            raise AgentFailed(
                f"the session's state is of format {state.format!r}, the agent's is "
                f"{state_format!r}; go on in a fork of the session, "
                "which starts from the transcript"
            )
        given = TurnInput(
            record.request.input,
            state=state.data,
            state_version=state.version,
            unseen=state.unseen,
            resume=record.resumes,
            approvals=tuple(
                Approval(d.call.call_id, d.decision, d.by, d.reason) for d in record.decided
            ),
        )
        return given, state_format

    def _cancelled(self, turn: LiveTurn) -> TurnEnd | Exception:
        task = asyncio.current_task()
        if turn.stop is not None:
            return TurnEnd()
        if task is not None and task.cancelling():
            # not the turn is meant but the actor: its supervisor ends it
            raise asyncio.CancelledError
        return AgentFailed("the agent was cancelled by its own code")

    def _checked(self, end: TurnEnd, turn: LiveTurn) -> TurnEnd | Exception:
        mistake = _mistake(end, self._config.max_output_bytes)
        if mistake is not None:
            return AgentFailed(mistake)
        if end.status == "paused" and not (turn.record.pending or turn.record.decided):
            return AgentFailed("the agent paused, but no call of a tool waits for a decision")
        return end

    def _tell(self, turn: LiveTurn, error: Exception) -> None:
        # The message stays out of the log: it may hold what the user said, or a secret.
        frames = traceback.extract_tb(error.__traceback__)
        _log.error(
            "agent failed",
            agent=turn.record.agent,
            turn_id=turn.record.id,
            error=error.code if isinstance(error, PoolError) else type(error).__name__,
            where=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-3:]],
        )

    def _cancel_leftovers(self, turn: LiveTurn) -> None:
        count = scope.cancel_leftovers(turn)
        if count and self._observers:
            self._observers.notice(TasksLeakedNotice(turn.record.agent, turn.record.id, count))


def _mistake(end: Any, max_output_bytes: int) -> str | None:
    """What is wrong with what an agent's `run` returned: users write it, so it may be anything."""
    if type(end) is not TurnEnd:
        return f"the agent returned {type(end).__name__}; run() returns a TurnEnd"
    output: object = end.output
    if output is not None:
        if not isinstance(output, str):
            return f"the agent's output is {type(output).__name__}; it must be text"
        # no character takes more than four bytes
        if 4 * len(output) > max_output_bytes and writable(output)[1] > max_output_bytes:
            return f"the answer is longer than {max_output_bytes} bytes, the most it may be"
    state: object = end.append if end.state is None else end.state
    if not (state is None or isinstance(state, bytes)):
        return f"the agent's state is {type(state).__name__}; it must be bytes"
    return None


async def _uncancel() -> None:
    # The cancellation meant the turn. The actor's task lives on.
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return
    while task.cancelling():
        task.uncancel()
    # An agent that ended without awaiting has not met it yet: it would strike at the next await.
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
