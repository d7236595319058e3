"""The kill switch: agents that an operator has disabled, in every process of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time
from typing import Annotated, Final

import msgspec
import structlog
from msgspec import Meta, Struct

from pool.errors import AgentDegraded, InvalidRequest
from pool.guard.looking import Looking
from pool.ids import check_id
from pool.store.cabinet import Cabinet, Document
from pool.store.filing import documents_of

KIND: Final = "switch"
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
        self._looking = Looking(
            self.refresh, name="switches", away="it is not known which agents are disabled"
        )

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
        return [_read(each) async for each in documents_of(self._cabinet, KIND)]

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
        await self._looking.start()

    async def stop(self) -> None:
        """Look no more."""
        await self._looking.stop()

    def _tell(self, before: Mapping[str, Switch]) -> None:
        for agent in self._off.keys() - before.keys():
            switch = self._off[agent]
            _log.warning("agent disabled", agent=agent, reason=switch.reason, cancel=switch.cancel)
        for agent in before.keys() - self._off.keys():
            _log.warning("agent enabled", agent=agent)


def _read(document: Document) -> Switch:
    """The switch in a document. One that cannot be read is off all the same: better an agent that
    rests than one that runs wild.
    """
    try:
        return msgspec.json.decode(document.data, type=Switch)
    except msgspec.DecodeError:
        _log.warning(
            "a switch in the store cannot be read: its agent is disabled",
            agent=document.id,
            remedy="a newer version may have made it: update this process, or enable the agent",
        )
        return Switch(agent=document.id)
