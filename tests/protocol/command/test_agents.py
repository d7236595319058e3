"""The kill switch as an operator has it: what is said about a name that nobody has."""

from __future__ import annotations

import pytest

from pool.guard.switches import Switches
from pool.store.memory import MemoryStore
from protocol.command.agents import disable
from protocol.command.audited import Notes
from tests.support.cluster import cluster

Captured = pytest.CaptureFixture[str]

NOTES = Notes(None)
NOT_KNOWN = "it is not known here whether a server has an agent of this name\n"


async def _echo(text: str) -> str:
    return text


@pytest.mark.parametrize("agent", ["helper", "other", "hepler"])
async def test_a_name_that_no_server_has_is_told(agent: str, capsys: Captured) -> None:
    """Where servers know of each other; it is disabled all the same, as one may come."""
    async with cluster({"helper": _echo}, {"helper": _echo, "other": _echo}) as on:
        assert await disable(on.views[0], NOTES, agent, reason="", cancel=False) == 0
        assert [each.agent for each in await Switches(on.store).list()] == [agent]
    out, error = capsys.readouterr()
    assert out.startswith(f"agent {agent} is disabled") and NOT_KNOWN not in out
    warning = "actorpool: no server that is up has an agent hepler; they have: helper, other\n"
    assert error == (warning if agent == "hepler" else "")


async def test_that_a_name_is_not_checked_is_told(capsys: Captured) -> None:
    """Where nobody is up, or servers do not know of each other."""
    assert await disable(MemoryStore(), NOTES, "hepler", reason="", cancel=False) == 0
    out, error = capsys.readouterr()
    assert out.endswith(NOT_KNOWN)
    assert error == ""
