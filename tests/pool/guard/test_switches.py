from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from pool import AgentPool, PoolConfig
from pool.errors import AgentDegraded, InvalidRequest, StoreUnavailable
from pool.guard.switches import Switches
from pool.store.cabinet import Document
from pool.store.memory import MemoryStore
from tests.support.serving import echo
from tests.support.serving_agents import Held

WITHIN_S = 5.0


def pooled(agents, store):
    """A pool that ends at once."""
    return AgentPool(agents, store=store, config=PoolConfig(close_deadline_s=0))


class Away(MemoryStore):
    """A store that can be away, or broken."""

    error: Exception | None = None
    listings = 0

    async def documents(self, kind, after, limit):
        self.listings += 1
        return await super().documents(kind, after, limit)

    async def changes(self, kind):
        if self.error is not None:
            raise self.error
        return await super().changes(kind)


async def test_a_disabled_agent_is_refused_in_every_pool_within_seconds():
    """Its turns are refused with the reason; others are answered; enabled, it answers again."""
    store = MemoryStore()
    operator = Switches(store)
    agents = {"a": echo, "b": echo}
    async with pooled(agents, store) as here, pooled(agents, store) as there:
        await operator.disable("a", reason="it spends too much")
        await asyncio.sleep(WITHIN_S)
        for pool in (here, there):
            with pytest.raises(AgentDegraded) as caught:
                await pool.ask("hi", agent="a")
            assert "disabled by an operator: it spends too much" in caught.value.detail
            assert caught.value.retryable
            assert (await pool.ask("hi", agent="b")).output == "echo: hi"
        assert await operator.enable("a") is True
        await asyncio.sleep(WITHIN_S)
        assert (await here.ask("hi", agent="a")).output == "echo: hi"


async def test_a_refusal_leaves_nothing_behind():
    """No turn, no session, no place in the queue; it is counted like any other."""
    store = MemoryStore()
    await Switches(store).disable("a")
    async with pooled({"a": echo}, store) as pool:
        with pytest.raises(AgentDegraded):
            await pool.submit("hi", session="s")
        stats = pool.stats()
        assert (stats.turns, stats.sessions, stats.agents[0].queued) == (0, 0, 0)
        assert (await pool.sessions(None, 10)).items == []


async def test_what_was_accepted_before_is_given_again():
    """The same idempotency key still finds its turn."""
    store = MemoryStore()
    async with pooled({"a": echo}, store) as pool:
        first = await pool.ask("hi", session="s", idempotency_key="k")
        await pool.switches.disable("a")
        await pool.switches.refresh()
        again = await pool.ask("hi", session="s", idempotency_key="k")
        assert again.id == first.id


async def test_running_turns_go_on():
    """The switch alone ends nothing."""
    held = Held()
    store = MemoryStore()
    async with pooled({"a": held}, store) as pool:
        turn = await pool.submit("hi")
        await held.running.wait()
        await Switches(store).disable("a")
        await asyncio.sleep(WITHIN_S)
        held.release.set()
        assert (await pool.wait(turn.id)).state == "completed"


async def test_with_cancel_running_and_waiting_turns_end():
    """Those of the agent only."""
    held, other = Held(), Held()
    store = MemoryStore()
    async with pooled({"a": held, "b": other}, store) as pool:
        running = await pool.submit("hi", session="s", agent="a")
        waiting = await pool.submit("hi", session="s", agent="a")
        spared = await pool.submit("hi", agent="b")
        await held.running.wait()
        await other.running.wait()
        await Switches(store).disable("a", cancel=True)
        await asyncio.sleep(WITHIN_S)
        assert (await pool.wait(running.id)).state == "cancelled"
        assert (await pool.wait(waiting.id)).state == "cancelled"
        other.release.set()
        assert (await pool.wait(spared.id)).state == "completed"


async def test_a_pool_that_opens_knows_at_once():
    """A restart does not enable anything."""
    store = MemoryStore()
    await Switches(store).disable("a")
    async with pooled({"a": echo}, store) as pool:
        with pytest.raises(AgentDegraded):
            await pool.ask("hi")


async def test_what_is_disabled_stays_so_while_the_store_is_away():
    """An outage neither enables an agent nor ends the looking."""
    store = Away()
    switches = Switches(store)
    await switches.disable("a")
    await switches.start()
    for error in (StoreUnavailable("away"), RuntimeError("a defect")):
        store.error = error
        await asyncio.sleep(3)
        with pytest.raises(AgentDegraded):
            switches.check("a")
    store.error = None
    await switches.enable("a")
    await asyncio.sleep(2)
    switches.check("a")
    await switches.stop()


async def test_nothing_is_read_while_nothing_changes():
    """Looking every second costs one small question."""
    store = Away()
    switches = Switches(store)
    await switches.disable("a")
    for _ in range(10):
        await switches.refresh()
    assert store.listings == 1


async def test_a_switch_that_cannot_be_read_is_off():
    """One of a newer version, say: its agent rests, and the others are followed all the same."""
    store = MemoryStore()
    switches = Switches(store)
    with capture_logs() as logs:
        await store.put("switch", [Document("a", b'{"agent": 7}')])
        await switches.disable("b", reason="too dear")
        await switches.refresh()
    for agent in ("a", "b"):
        with pytest.raises(AgentDegraded, match="disabled by an operator"):
            switches.check(agent)
    assert logs[0]["agent"] == "a"
    await switches.enable("a")
    await switches.refresh()
    switches.check("a")


async def test_the_disabled_are_listed():
    """With since when and why; twice disabled is once listed, as it was told last."""
    switches = Switches(MemoryStore(), wall=lambda: 7.0)
    await switches.disable("b")
    await switches.disable("a", reason="first")
    await switches.disable("a", reason="second", cancel=True)
    found = await switches.list()
    assert [(each.agent, each.reason, each.cancel) for each in found] == [
        ("a", "second", True),
        ("b", "", False),
    ]
    assert found[0].since == 7.0
    assert await switches.enable("b") is True
    assert await switches.enable("b") is False


@pytest.mark.parametrize(("agent", "reason"), [("../x", ""), ("", ""), ("a", "x" * 501)])
async def test_what_cannot_be_disabled_is_refused(agent, reason):
    """A name that no agent can have, or a novel."""
    with pytest.raises(InvalidRequest):
        await Switches(MemoryStore()).disable(agent, reason=reason)
