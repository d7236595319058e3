"""The kill switch: agents that an operator has disabled, in every process of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Annotated, Final

import msgspec
import structlog
from msgspec import Meta, Struct

from pool.errors import AgentDegraded, InvalidRequest, StoreUnavailable
from pool.ids import check_id
from pool.store.cabinet import Cabinet, Document

KIND: Final = "switch"
_EVERY_S: Final = 1.0
_PAGE: Final = 1_000
# How soon one may ask again whether it was enabled, in seconds.
_RETRY_S: Final = 30.0
_OPERATOR: Final = "disabled by an operator"

_log = structlog.get_logger("pool.switches")


class Switch(Struct, frozen=True, kw_only=True):
    """An agent that is disabled. `since` is in seconds since the epoch; with `cancel` its turns are
    cancelled, also those that waited.
    """

    agent: str
    reason: Annotated[str, Meta(max_length=500)] = ""
    cancel: bool = False
    since: float = 0.0

    @property
    def said(self) -> str:
        """Why its turns are refused, for callers."""
        return f"{_OPERATOR}: {self.reason}" if self.reason else _OPERATOR


class Switches:
    """Knows which agents are disabled, at most a second late while it runs.

    `cancel` is called again and again with each agent whose turns are to be cancelled: turns may
    still arrive that were accepted before.
    """

    def __init__(
        self,
        cabinet: Cabinet,
        *,
        cancel: Callable[[str], None] | None = None,
        wall: Callable[[], float] = time,
    ) -> None:
        self._cabinet = cabinet
        self._cancel = cancel
        self._wall = wall
        self._off: Mapping[str, Switch] = {}
        self._changes = -1
        self._reachable = True
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Switches {len(self._off)} off>"

    # --- what an operator does

    async def disable(self, agent: str, *, reason: str = "", cancel: bool = False) -> Switch:
        """Refuse an agent's new turns; with `cancel` also end those that it has."""
        switch = Switch(
            agent=check_id(agent, "agent"), reason=reason, cancel=cancel, since=self._wall()
        )
        try:
            msgspec.convert(msgspec.to_builtins(switch), Switch)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"an agent cannot be disabled so: {error}") from None
        await self._cabinet.put(KIND, [Document(agent, msgspec.json.encode(switch))])
        return switch

    async def enable(self, agent: str) -> bool:
        """Take an agent's turns again; False if it was not disabled."""
        return await self._cabinet.remove(KIND, check_id(agent, "agent"))

    async def list(self) -> Sequence[Switch]:
        """The agents that are disabled, by their names."""
        found: list[Switch] = []
        after: str | None = None
        while True:
            documents, after = await self._cabinet.documents(KIND, after, _PAGE)
            found += [msgspec.json.decode(each.data, type=Switch) for each in documents]
            if after is None:
                return found

    # --- what a pool does

    @property
    def off(self) -> Mapping[str, Switch]:
        """The agents that are disabled, as far as is known here."""
        return self._off

    def check(self, agent: str) -> None:
        """`AgentDegraded` if the agent is disabled."""
        switch = self._off.get(agent)
        if switch is not None:
            raise AgentDegraded(f"agent {agent!r} is {switch.said}", retry_after_s=_RETRY_S)

    async def refresh(self) -> None:
        """Follow the store."""
        changes = await self._cabinet.changes(KIND)
        if changes != self._changes:
            before, self._off = self._off, {each.agent: each for each in await self.list()}
            self._changes = changes
            self._tell(before)
        if self._cancel is not None:
            for switch in self._off.values():
                if switch.cancel:
                    self._cancel(switch.agent)

    async def start(self) -> None:
        """Look at once, then every second. A store that is away is no reason not to start."""
        await self._try()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="switches")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            await self._try()

    async def _try(self) -> None:
        try:
            await self.refresh()
            self._reachable = True
        except StoreUnavailable as error:
            if self._reachable:
                # once for an outage; what is disabled stays so
                self._reachable = False
                _log.warning("it is not known which agents are disabled", error=error.code)
        except Exception:
            _log.exception("switches failed", remedy="it is done again: report this, please")

    def _tell(self, before: Mapping[str, Switch]) -> None:
        for agent in self._off.keys() - before.keys():
            switch = self._off[agent]
            _log.warning("agent disabled", agent=agent, reason=switch.reason, cancel=switch.cancel)
        for agent in before.keys() - self._off.keys():
            _log.warning("agent enabled", agent=agent)
